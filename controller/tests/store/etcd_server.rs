//! A real etcd for one test: on loopback, in a folder of its own, dead at the end.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use foreshade_controller::store::{Etcd, EtcdOptions, EtcdTls, KeyRange, ReadAt, Store};
use tempfile::TempDir;

/// Where it may be beside the usual path.
const PLACES: [&str; 2] = ["/usr/local/bin", "/usr/sbin"];

/// A server, or a cluster of some.
pub(crate) struct EtcdServer {
    members: Vec<Member>,
    flags: Vec<String>,
    tls: Option<EtcdTls>,
}

/// One of them, and where it keeps its data.
struct Member {
    folder: TempDir,
    /// For clients, and for the other members.
    ports: (u16, u16),
    process: Option<Child>,
}

impl EtcdServer {
    /// Whether this machine has one.
    pub(crate) fn is_here() -> bool {
        program().is_some()
    }

    /// Starts one, and waits until it answers.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Self::start_cluster(1, flags, None).await
    }

    /// Starts some that are one cluster, and waits until it answers; by TLS, if there are certificates.
    pub(crate) async fn start_cluster(size: usize, flags: &[&str], tls: Option<EtcdTls>) -> Self {
        // A port that was free may be taken a moment later; that is rare, and not what is tested.
        for _ in 0..5 {
            let member = |_| Member {
                folder: tempfile::tempdir().unwrap(),
                ports: (free_port(), free_port()),
                process: None,
            };
            let mut server = Self {
                members: (0..size).map(member).collect(),
                flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
                tls: tls.clone(),
            };
            (0..size).for_each(|at| server.spawn(at));
            if server.answers().await {
                return server;
            }
        }
        panic!("etcd does not start");
    }

    /// How to reach it.
    pub(crate) fn options(&self) -> EtcdOptions {
        let mut options = EtcdOptions::new(self.members.iter().map(|member| self.url(member.ports.0)));
        options.tls = self.tls.clone();
        options
    }

    fn url(&self, port: u16) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{port}")
    }

    /// Kills it as a crash would, and starts it again on the same data.
    pub(crate) async fn restart(&mut self) {
        for at in 0..self.members.len() {
            self.kill(at);
            self.spawn(at);
        }
        assert!(self.answers().await, "etcd does not start again");
    }

    /// Kills one.
    pub(crate) fn kill(&mut self, at: usize) {
        if let Some(mut process) = self.members[at].process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops one from running, without ending it, or lets it run again.
    pub(crate) fn freeze(&self, at: usize, frozen: bool) {
        use nix::sys::signal::{Signal, kill};
        let id = self.members[at].process.as_ref().unwrap().id();
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(nix::unistd::Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
    }

    /// Starts one, again or for the first time.
    pub(crate) fn spawn(&mut self, at: usize) {
        let program = program().expect("etcd is here");
        let peer = |member: &Member| format!("http://127.0.0.1:{}", member.ports.1);
        let named = self
            .members
            .iter()
            .enumerate()
            .map(|(n, member)| format!("m{n}={}", peer(member)));
        let cluster: Vec<String> = named.collect();
        let member = &self.members[at];
        let (client, peer) = (self.url(member.ports.0), peer(member));
        let mut command = Command::new(&program);
        command.arg("--data-dir").arg(member.folder.path().join("data"));
        command.args([
            "--name",
            &format!("m{at}"),
            "--initial-cluster",
            &cluster.join(","),
        ]);
        command.args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ]);
        command.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        // Elections in a fraction of a second, and short leases: its least is one and a half elections.
        command.args(["--heartbeat-interval", "50", "--election-timeout", "500"]);
        command.args(["--logger", "zap", "--log-level", "error"]);
        command.args([progress_flag(&program), "100ms"]);
        command.args(&self.flags);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.members[at].process = Some(command.spawn().unwrap());
    }

    async fn answers(&mut self) -> bool {
        let mut options = self.options();
        options.deadline = Duration::from_secs(2);
        for _ in 0..15 {
            let mut processes = self
                .members
                .iter_mut()
                .filter_map(|member| member.process.as_mut());
            if processes.any(|process| process.try_wait().unwrap().is_some()) {
                return false;
            }
            let etcd = Etcd::new(&options).unwrap();
            if etcd.range(KeyRange::all(), ReadAt::Latest, 1).await.is_ok() {
                return true;
            }
        }
        false
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|at| self.kill(at));
    }
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(PLACES.iter().map(PathBuf::from));
    folders
        .map(|folder| folder.join("etcd"))
        .find(|file| file.is_file())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// The flag that makes it tell watchers often how far it has come; it has had two names.
fn progress_flag(program: &PathBuf) -> &'static str {
    let help = Command::new(program).arg("--help").output().unwrap();
    let text = [help.stdout, help.stderr].concat();
    if String::from_utf8_lossy(&text).contains("--experimental-watch-progress-notify-interval") {
        "--experimental-watch-progress-notify-interval"
    } else {
        "--watch-progress-notify-interval"
    }
}
