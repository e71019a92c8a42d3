//! A real `foreshade-proxy` process on free ports of the loopback interface.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use foreshade_bench::client;
use nix::fcntl::{Flock, FlockArg};

/// Only a broken build takes this long for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running proxy; dropping it kills it.
#[derive(Debug)]
pub struct Proxy {
    /// Where users connect.
    pub users: SocketAddr,
    /// Where operators look.
    pub admin: SocketAddr,
    /// Where its files are.
    pub folder: PathBuf,
    child: Child,
    /// Processes that have taken its place, one after the other.
    successors: Vec<u32>,
}

/// What a configuration may use.
#[derive(Debug)]
pub struct Place {
    /// For users.
    pub users: SocketAddr,
    /// For operators.
    pub admin: SocketAddr,
    /// For files; removed with the proxy.
    pub folder: PathBuf,
}

impl Proxy {
    /// Starts a proxy with one listener on `clusters` (YAML from `clusters:` on, whose first cluster is named `shop`)
    /// and waits until it is ready.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(clusters: &str) -> Self {
        Self::start_with_route(clusters, "{ match: { path: { prefix: / } }, cluster: shop }")
    }

    /// The same, with a route of the test's own.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_with_route(clusters: &str, route: &str) -> Self {
        Self::start_listening(clusters, route, "")
    }

    /// The same, with one route and keys of the listener's section `limits`, as YAML in one line.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_with_limits(clusters: &str, limits: &str) -> Self {
        Self::start_listening(
            clusters,
            "{ match: { path: { prefix: / } }, cluster: shop, timeout: 2s }",
            &format!("    limits: {{ {limits} }}\n"),
        )
    }

    fn start_listening(clusters: &str, route: &str, listener: &str) -> Self {
        Self::start_with(|users, admin| {
            format!(
                "{}listeners:\n  - name: web\n    address: {users}\n    protocol: http\n{listener}    routes:\n      \
                 - {route}\n{clusters}",
                preamble(admin)
            )
        })
    }

    /// The same, with a file of the test's own, for users at the first address and operators at the second.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_with(config: impl FnOnce(SocketAddr, SocketAddr) -> String) -> Self {
        let mut proxy = Self::spawn(|place| config(place.users, place.admin));
        proxy.wait_until("ready", |p| {
            client::request(p.admin, "GET", "/readyz", "").is_ok_and(|(s, _)| s == 200)
        });
        proxy
    }

    /// Starts a proxy with a file of the test's own, made of free addresses and a folder, and does not wait.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn spawn(config: impl FnOnce(&Place) -> String) -> Self {
        Self::spawn_with(config, &[])
    }

    /// The same, with variables of the environment.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn spawn_with(config: impl FnOnce(&Place) -> String, environment: &[(&str, &str)]) -> Self {
        let place = Place {
            users: free_address(),
            admin: free_address(),
            folder: folder(),
        };
        let file = place.folder.join("foreshade.yaml");
        fs::write(&file, config(&place)).expect("the temporary folder is writable");
        let child = Command::new(binary("foreshade-proxy"))
            .args(["run", "--config"])
            .arg(&file)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("foreshade-proxy starts");
        let Place { users, admin, folder } = place;
        Self {
            users,
            admin,
            folder,
            child,
            successors: Vec::new(),
        }
    }

    /// Has a new process take over, and waits until it has: its number, or what the command says.
    ///
    /// # Errors
    /// What the command says of why not.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn upgrade(&mut self) -> Result<u32, String> {
        let command = Command::new(binary("foreshade-proxy"))
            .args(["upgrade", "--config"])
            .arg(self.folder.join("foreshade.yaml"))
            .output()
            .expect("foreshade-proxy starts");
        if !command.status.success() {
            return Err(String::from_utf8_lossy(&command.stderr).into_owned());
        }
        let said = String::from_utf8_lossy(&command.stdout).into_owned();
        let pid = said.split(' ').find_map(|word| word.parse().ok());
        let pid = pid.unwrap_or_else(|| panic!("no process in {said}"));
        self.successors.push(pid);
        Ok(pid)
    }

    /// A process that the test has found to have taken its place: killed at the end, as the others.
    pub fn succeeded_by(&mut self, pid: u32) {
        self.successors.push(pid);
    }

    /// Waits until `done` holds.
    ///
    /// # Panics
    /// When it does not come to hold, or the proxy ends.
    pub fn wait_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            let ended = self.child.try_wait().expect("its state can be asked");
            // Whoever has a successor may end.
            if let Some(status) = ended.filter(|_| self.successors.is_empty()) {
                let mut log = String::new();
                let _ = self.child.stderr.take().map(|mut e| e.read_to_string(&mut log));
                panic!("the proxy ended with {status} before it was {what}:\n{log}");
            }
            assert!(begun.elapsed() < PATIENCE, "the proxy is still not {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What `/v1/endpoints` says of an endpoint.
    ///
    /// # Panics
    /// When it says nothing.
    pub fn endpoint(&self, name: &str) -> serde_json::Value {
        let (status, body) =
            client::request(self.admin, "GET", "/v1/endpoints", "").expect("the admin answers");
        assert_eq!(status, 200, "{body}");
        let all: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let clusters = all["clusters"].as_array().expect("clusters");
        let endpoints = clusters
            .iter()
            .flat_map(|c| c["endpoints"].as_array().expect("endpoints"));
        endpoints
            .clone()
            .find(|e| e["name"] == name)
            .unwrap_or_else(|| panic!("no endpoint {name} in {body}"))
            .clone()
    }

    /// How often clients have been refused for `reason`.
    ///
    /// # Panics
    /// When the admin interface says nothing.
    pub fn refused(&self, reason: &str) -> u64 {
        let (_, page) = client::request(self.admin, "GET", "/metrics", "").expect("the admin answers");
        let series = format!("foreshade_refused_total{{reason=\"{reason}\"}} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&series));
        value.map_or(0, |v| v.parse().expect("a number"))
    }

    /// What `/proc` knows of its memory: a line of `status` in bytes, as `VmHWM`.
    ///
    /// # Panics
    /// When there is no such line.
    pub fn memory(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let found = status
            .lines()
            .find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
        let kib = found.and_then(|value| value.trim().strip_suffix(" kB"));
        kib.expect("a line in kB")
            .trim()
            .parse::<u64>()
            .expect("a number")
            * 1024
    }

    /// What `/v1/mirror` says.
    ///
    /// # Panics
    /// When it says nothing.
    pub fn mirror(&self) -> serde_json::Value {
        let (status, body) = client::request(self.admin, "GET", "/v1/mirror", "").expect("the admin answers");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Sends SIGTERM.
    ///
    /// # Panics
    /// When there is no such command on this machine.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends SIGHUP.
    ///
    /// # Panics
    /// When there is no such command on this machine.
    pub fn hang_up(&self) {
        self.signal("HUP");
    }

    /// Sends a signal, by its name without `SIG`.
    ///
    /// # Panics
    /// When there is no such command on this machine.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill runs").success());
    }

    /// Replaces the file, as an editor does it. Nobody is told.
    ///
    /// # Panics
    /// When the temporary folder is full.
    pub fn rewrite(&self, config: &str) {
        let new = self.folder.join("new");
        fs::write(&new, config).expect("the temporary folder is writable");
        fs::rename(&new, self.folder.join("foreshade.yaml")).expect("in the same folder");
    }

    /// Replaces the file and has it read: the status of the answer, and what it says.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn reload(&self, config: &str) -> (u16, serde_json::Value) {
        self.rewrite(config);
        let (status, body) =
            client::request(self.admin, "POST", "/v1/reload", "").expect("the admin answers");
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    /// Which configuration runs, and what became of the last reload.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn reload_status(&self) -> serde_json::Value {
        let (_, body) = client::request(self.admin, "GET", "/v1/reload", "").expect("the admin answers");
        serde_json::from_str(&body).expect("JSON")
    }

    /// The value of a metric, by its name with labels as the page writes them. `None` where it has no sample.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, page) = client::request(self.admin, "GET", "/metrics", "").expect("the admin answers");
        let sample = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        sample.parse().ok()
    }

    /// What a counter of `/metrics` says; 0 where there is none of that name.
    ///
    /// # Panics
    /// When the admin interface says nothing, or it is no whole number.
    pub fn count(&self, name: &str) -> u64 {
        let value = self.metric(name).unwrap_or_default();
        value.to_string().parse().expect("a counter")
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its state can be asked") {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the proxy does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for pid in &self.successors {
            let _ = Command::new("kill")
                .args(["-KILL", &pid.to_string()])
                .stderr(Stdio::null())
                .status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// How every file of the tests begins.
pub fn preamble(admin: SocketAddr) -> String {
    format!("apiVersion: foreshade/v1\nadmin: {{ address: {admin} }}\nworkers: 2\ngrace: 20s\n")
}

/// A program of this workspace, built beside this test.
///
/// # Panics
/// When it has not been built.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test has a file");
    let profile = test.ancestors().find(|p| p.join(name).is_file());
    profile
        .map(|p| p.join(name))
        .unwrap_or_else(|| panic!("no {name} beside {}; run `make test`", test.display()))
}

/// The root of the workspace.
///
/// # Panics
/// Never, in this workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests lie in the workspace")
}

/// Ports that the kernel gives to nobody who does not ask for them by number.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// An address of the loopback interface that nobody listens on, and that no other test is given while this one runs: a
/// proxy would share it with the other one's.
///
/// # Panics
/// When the machine has none left.
pub fn free_address() -> SocketAddr {
    static CLAIMS: Mutex<Vec<Flock<fs::File>>> = Mutex::new(Vec::new());
    let mut claims = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
    // Of this user: what another one has claimed cannot be opened, and is bound.
    let user = fs::metadata("/proc/self").expect("there is a process").uid();
    let folder = std::env::temp_dir().join(format!("foreshade-test-ports-{user}"));
    fs::create_dir_all(&folder).expect("the temporary folder is writable");
    // Not all of them begin at the same one.
    let first = usize::try_from(std::process::id()).unwrap_or_default() * 97 % PORTS.len();
    for port in PORTS.cycle().skip(first).take(PORTS.len()) {
        let claim = fs::File::create(folder.join(port.to_string())).expect("a claim can be written");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // Bound, because who listens need not be a test.
        if let Ok(claim) = Flock::lock(claim, FlockArg::LockExclusiveNonblock)
            && TcpListener::bind(address).is_ok()
        {
            claims.push(claim);
            return address;
        }
    }
    panic!("no port is free");
}

/// A new folder below the system's temporary one.
fn folder() -> PathBuf {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("foreshade-test-{}-{n}", std::process::id()));
    fs::create_dir_all(&folder).expect("the temporary folder is writable");
    folder
}
