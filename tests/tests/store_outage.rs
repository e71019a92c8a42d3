//! The store goes away under a running controller: users are served by the plan that the proxy has, the controller says
//! that it cannot act, and goes on by itself when the store is back. With a real etcd, and with a file on a full
//! disk (a tmpfs); what cannot be had here is said.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed; what is skipped has to be said"
)]

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use foreshade_bench::client;
use foreshade_tests::proxy::{Proxy, binary, free_address};
use foreshade_tests::wire::{Scripted, exchange};
use serde_json::{Value, json};

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Ends {
    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }
}

/// Starts an etcd of one member on the data in `folder`; `None` where there is no such program.
fn etcd(folder: &Path, [clients, peers]: [SocketAddr; 2]) -> Option<Ends> {
    let (clients, peers) = (format!("http://{clients}"), format!("http://{peers}"));
    let started = Command::new("etcd")
        .arg("--data-dir")
        .arg(folder.join("etcd"))
        .args(["--name", "m", "--initial-cluster", &format!("m={peers}")])
        .args([
            "--listen-client-urls",
            &clients,
            "--advertise-client-urls",
            &clients,
        ])
        .args([
            "--listen-peer-urls",
            &peers,
            "--initial-advertise-peer-urls",
            &peers,
        ])
        .args(["--log-level", "error"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    started.ok().map(Ends)
}

fn answering(name: &'static str) -> Scripted {
    Scripted::start(move |stream| {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n{name}");
        let _ = stream.write_all(answer.as_bytes());
    })
}

/// Everybody but the store.
struct System {
    proxy: Proxy,
    api: SocketAddr,
    _controller: Ends,
    _endpoints: [Scripted; 2],
}

impl System {
    /// With this for the controller's store.
    fn start(store: &str) -> Self {
        let endpoints = [answering("a"), answering("s")];
        let [a, standby] = [endpoints[0].address, endpoints[1].address];
        let (link, api) = (free_address(), free_address());
        let mut file = PathBuf::new();
        let proxy = Proxy::spawn(|place| {
            let (users, admin, folder) = (place.users, place.admin, place.folder.display().to_string());
            let text = format!(
                "apiVersion: foreshade/v1\nadmin: {{ address: {admin} }}\nworkers: 1\n\
                 follow: {{ address: \"{link}\", name: edge, planFile: {folder}/plan }}\n\
                 controller:\n  store: {store}\n  link: {{ address: {link} }}\n  api: {{ address: {api} }}\n\
                 listeners: [{{ name: web, address: {users}, routes: [{{ cluster: shop }}] }}]\n\
                 clusters:\n  - name: shop\n    cohort: {{ header: x-user }}\n    slowStart: 0s\n    \
                 endpoints: [{{ name: a, address: \"{a}\", shadow: a-standby }}]\n    \
                 shadows: [{{ name: a-standby, address: \"{standby}\" }}]\n"
            );
            file = place.folder.join("whole.yaml");
            fs::write(&file, &text).unwrap();
            text
        });
        let controller = Command::new(binary("foreshade-controller"))
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(file.with_extension("log")).unwrap())
            .spawn()
            .expect("the controller is built with the tests");
        Self {
            proxy,
            api,
            _controller: Ends(controller),
            _endpoints: endpoints,
        }
    }

    fn until(&mut self, what: &str, is: impl Fn(SocketAddr) -> bool) {
        let api = self.api;
        self.proxy.wait_until(what, |_| is(api));
    }

    fn promote(&self) {
        let answer = self.order("promote", &json!({ "reason": "a new build", "full": true }));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn order(&self, verb: &str, body: &Value) -> String {
        let mut body = body.clone();
        body["actor"] = json!("tests");
        let body = body.to_string();
        let request = format!(
            "POST /v1/pairs/shop/a/{verb} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        exchange(self.api, request.as_bytes())
    }
}

fn status(api: SocketAddr, path: &str) -> Option<(u16, String)> {
    client::request(api, "GET", path, "").ok()
}

fn is_warm(api: SocketAddr) -> bool {
    status(api, "/v1/pairs/shop/a").is_some_and(|(_, body)| body.contains("Warm.Idle"))
}

fn is_ready(api: SocketAddr) -> bool {
    status(api, "/readyz").is_some_and(|(code, _)| code == 200)
}

/// It says that it cannot act, to a balancer and to whoever reads metrics.
fn says_so(api: SocketAddr) -> bool {
    let standing =
        |page: &str, value: &str| page.contains(&format!("standing{{standing=\"leading\"}} {value}\n"));
    let refuses = status(api, "/readyz").is_some_and(|(code, _)| code == 503);
    refuses && status(api, "/metrics").is_some_and(|(_, page)| standing(&page, "0"))
}

/// The pair's shadow is its primary now.
fn is_promoted(api: SocketAddr) -> bool {
    let pair = status(api, "/v1/pairs/shop/a").filter(|(code, _)| *code == 200);
    let pair = pair.and_then(|(_, body)| serde_json::from_str::<Value>(&body).ok());
    pair.is_some_and(|pair| pair["summary"]["serving"] == "shadow" && pair["summary"]["state"] == "Baking")
}

/// Users who come one after another, until they are asked what they saw.
struct Users {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    thread: JoinHandle<Saw>,
}

/// What users saw.
#[derive(Debug, Default)]
struct Saw {
    failed: Vec<String>,
    by_old_primary: u64,
}

impl Users {
    fn come(to: SocketAddr) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, counted) = (stop.clone(), served.clone());
        let thread = std::thread::spawn(move || {
            let mut saw = Saw::default();
            while !stopped.load(Ordering::Relaxed) {
                let user = counted.fetch_add(1, Ordering::Relaxed);
                let request =
                    format!("GET / HTTP/1.1\r\nHost: x\r\nx-user: u{user}\r\nConnection: close\r\n\r\n");
                let answer = exchange(to, request.as_bytes());
                saw.by_old_primary += u64::from(answer.ends_with('a'));
                if !answer.starts_with("HTTP/1.1 200") {
                    saw.failed.push(answer);
                }
            }
            saw
        });
        Self { stop, served, thread }
    }

    /// So many at least have been served since.
    fn go_on(&self, requests: u64) {
        let from = self.served.load(Ordering::Relaxed);
        while self.served.load(Ordering::Relaxed) < from + requests {
            std::thread::yield_now();
        }
    }

    fn leave(self) -> (u64, Saw) {
        self.stop.store(true, Ordering::Relaxed);
        (self.served.load(Ordering::Relaxed), self.thread.join().unwrap())
    }
}

#[test]
fn an_etcd_that_stands_still_or_dies_harms_no_user_and_demotes_nobody() {
    let folder = std::env::temp_dir().join(format!("foreshade-test-outage-{}", std::process::id()));
    let addresses = [free_address(), free_address()];
    let Some(mut store) = etcd(&folder, addresses) else {
        eprintln!("SKIPPED: it takes an etcd; on Debian: apt-get install etcd-server");
        return;
    };
    let server = addresses[0];
    let mut system = System::start(&format!(
        "{{ etcd: {{ endpoints: [\"http://{server}\"], lease: 3s }} }}"
    ));
    system.until("warm", is_warm);
    system.promote();
    system.until("promoted", is_promoted);
    let users = Users::come(system.proxy.users);
    users.go_on(50);
    store.signal("-STOP");
    system.until("says that its store stands still", says_so);
    users.go_on(50);
    store.signal("-CONT");
    system.until("leads again", is_ready);
    system.until("goes on where it was", is_promoted);
    users.go_on(50);
    drop(store);
    system.until("says that its store is gone", says_so);
    users.go_on(50);
    store = etcd(&folder, addresses).expect("it was there before");
    system.until("leads once more", is_ready);
    system.until("goes on where it was once more", is_promoted);
    users.go_on(50);
    let (served, saw) = users.leave();
    assert!(saw.failed.is_empty(), "{saw:?}");
    // A request whose connection is not accepted in time fails over to the old primary, as it should; nobody else goes there.
    assert!(saw.by_old_primary * 20 < served, "{saw:?} of {served}");
    drop(store);
    let _ = fs::remove_dir_all(&folder);
}

/// A small disk of its own, unmounted at the end.
struct Disk(PathBuf);

impl Disk {
    /// `None` where this process may not mount one.
    fn mount() -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("foreshade-test-disk-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=8m", "foreshade-test"])
            .arg(&folder);
        mount.stderr(Stdio::null());
        mount
            .status()
            .is_ok_and(|status| status.success())
            .then_some(Self(folder))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes all the space that is left.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        while ballast.write_all(&[1; 4096]).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What cannot be unmounted goes with the machine.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

/// Most orders until a full disk has shown: the file has some room of its own.
const ORDERS_MAX: usize = 400;

#[test]
fn a_full_disk_refuses_orders_harms_no_user_and_is_over_when_there_is_space() {
    let Some(disk) = Disk::mount() else {
        eprintln!("SKIPPED: it takes a disk of its own, which only root may mount");
        return;
    };
    let mut system = System::start(&disk.0.join("controller.redb").display().to_string());
    system.until("warm", is_warm);
    system.promote();
    system.until("promoted", is_promoted);
    let users = Users::come(system.proxy.users);
    users.go_on(50);
    disk.fill();
    let long = "x".repeat(200);
    let turns = ["freeze", "unfreeze"].into_iter().cycle().take(ORDERS_MAX);
    let answers = turns.map(|verb| system.order(verb, &json!({ "reason": long })));
    let refused = answers
        .into_iter()
        .find(|answer| !answer.starts_with("HTTP/1.1 200"));
    let refused = refused.expect("a disk that is full is found to be");
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("urn:foreshade:read-only"),
        "{refused}"
    );
    system.until("says that nothing can be written", says_so);
    users.go_on(50);
    fs::remove_file(disk.ballast()).unwrap();
    // Nobody gives it an order: it is not ready.
    system.until("goes on by itself", is_ready);
    let answer = system.order("unfreeze", &json!({ "reason": "there is space" }));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    system.until("goes on where it was", is_promoted);
    users.go_on(50);
    let (_, saw) = users.leave();
    assert!(saw.failed.is_empty(), "{saw:?}");
    drop(system);
}
