//! Proxy and controller as two processes that read one file: a shadow that fails is rolled back, one that does not is led
//! to its users, and a controller that is killed comes back to where it was.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use foreshade_bench::client;
use foreshade_tests::proxy::{Proxy, binary, free_address};
use foreshade_tests::wire::{Scripted, exchange};
use serde_json::{Value, json};

/// One file for both, and who runs by it.
struct System {
    proxy: Proxy,
    controller: Child,
    api: SocketAddr,
    file: PathBuf,
    shadow_fails: Arc<AtomicBool>,
    _endpoints: Vec<Scripted>,
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = self.controller.kill();
        let _ = self.controller.wait();
    }
}

fn answering(name: &'static str, fails: Arc<AtomicBool>) -> Scripted {
    Scripted::start(move |stream| {
        let status = if fails.load(Ordering::Relaxed) {
            "500 Internal Server Error"
        } else {
            "200 OK"
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{name}",
            name.len()
        );
        let _ = stream.write_all(answer.as_bytes());
    })
}

/// What a test has in its file: more keys of the policy, lines of the controller's section, the primary's shadow, and
/// all standbys.
struct Written {
    policy: &'static str,
    controller: String,
    named: &'static str,
    standbys: &'static [&'static str],
}

impl System {
    fn start() -> Self {
        Self::start_with("", String::new())
    }

    /// With more keys of the policy, and more lines of the controller.
    fn start_with(policy: &'static str, controller: String) -> Self {
        Self::of(&Written {
            policy,
            controller,
            named: ", shadow: a-standby",
            standbys: &["a-standby"],
        })
    }

    fn of(written: &Written) -> Self {
        let shadow_fails = Arc::<AtomicBool>::default();
        let primary = answering("a", Arc::default());
        let standbys = written.standbys.iter();
        let standbys: Vec<_> = standbys
            .map(|name| answering(name, shadow_fails.clone()))
            .collect();
        let a = primary.address;
        let shadows = written
            .standbys
            .iter()
            .zip(&standbys)
            .map(|(name, standby)| format!("{{ name: {name}, address: \"{}\" }}", standby.address));
        let shadows = shadows.collect::<Vec<_>>().join(", ");
        let (link, api) = (free_address(), free_address());
        let mut file = PathBuf::new();
        let mut proxy = Proxy::spawn(|place| {
            let (users, admin, folder) = (place.users, place.admin, place.folder.display().to_string());
            fs::write(place.folder.join("key"), [7; 32]).unwrap();
            let Written {
                policy,
                controller,
                named,
                ..
            } = written;
            let text = format!(
                "apiVersion: foreshade/v1\nadmin: {{ address: {admin} }}\nworkers: 1\n\
                 follow: {{ address: \"{link}\", name: edge, planFile: {folder}/plan }}\n\
                 controller:\n  store: {folder}/controller.redb\n  link: {{ address: {link} }}\n  \
                 api: {{ address: {api}, links: {{ url: \"https://foreshade.example\", keyFile: {folder}/key }} }}\n  \
                 policies: [{{ name: default, steps: [50%, 100%], times: {{ stepMin: 1s }}{policy} }}]\n{controller}\
                 listeners: [{{ name: web, address: {users}, routes: [{{ cluster: shop }}] }}]\n\
                 clusters:\n  - name: shop\n    cohort: {{ header: x-user }}\n    slowStart: 0s\n    \
                 endpoints: [{{ name: a, address: \"{a}\"{named} }}]\n    shadows: [{shadows}]\n"
            );
            file = place.folder.join("whole.yaml");
            fs::write(&file, &text).unwrap();
            text
        });
        proxy.wait_until("ready", |p| {
            client::request(p.admin, "GET", "/readyz", "").is_ok_and(|(status, _)| status == 200)
        });
        let controller = run(&file);
        let mut system = Self {
            proxy,
            controller,
            api,
            file,
            shadow_fails,
            _endpoints: standbys.into_iter().chain([primary]).collect(),
        };
        system.until("warm", |pair| pair["state"] == "Warm.Idle");
        system
    }

    fn pair(&self) -> Option<Value> {
        let (status, body) = client::request(self.api, "GET", "/v1/pairs/shop/a", "").ok()?;
        let pair: Value = serde_json::from_str(&body).ok()?;
        (status == 200).then(|| pair["summary"].clone())
    }

    /// Users come, each with a request of his own, until the pair is like this.
    fn until(&mut self, what: &str, is: impl Fn(&Value) -> bool) {
        let (api, mut user) = (self.api, 0_u32);
        self.proxy.wait_until(what, |proxy| {
            for _ in 0..20 {
                user += 1;
                let request =
                    format!("GET / HTTP/1.1\r\nHost: x\r\nx-user: u{user}\r\nConnection: close\r\n\r\n");
                exchange(proxy.users, request.as_bytes());
            }
            let found = client::request(api, "GET", "/v1/pairs/shop/a", "").ok();
            let pair = found.and_then(|(_, body)| serde_json::from_str::<Value>(&body).ok());
            pair.is_some_and(|pair| is(&pair["summary"]))
        });
    }

    fn order(&self, verb: &str) -> (u16, Value) {
        self.post(&format!("/v1/pairs/shop/a/{verb}"), json!({}))
    }

    fn post(&self, path: &str, mut body: Value) -> (u16, Value) {
        body["actor"] = json!("tests");
        body["reason"] = json!("to see what happens");
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(self.api, request.as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap())
    }

    fn history(&self) -> Vec<String> {
        let (_, body) = client::request(self.api, "GET", "/v1/pairs/shop/a/history", "").unwrap();
        let history: Value = serde_json::from_str(&body).unwrap();
        let changes = history
            .as_array()
            .cloned()
            .or_else(|| history["changes"].as_array().cloned());
        changes
            .unwrap()
            .iter()
            .map(|change| change["to"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn run(file: &std::path::Path) -> Child {
    let log = File::create(file.with_extension("log")).unwrap();
    Command::new(binary("foreshade-controller"))
        .args(["run", "--config"])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the controller is built with the tests")
}

// Concept: topo-validate
#[test]
fn a_shadow_that_fails_is_rolled_back_and_users_are_served_by_the_primary() {
    let mut system = System::start();
    system.shadow_fails.store(true, Ordering::Relaxed);
    let (status, outcome) = system.order("promote");
    assert_eq!((status, &outcome["changed"]), (200, &json!(true)), "{outcome}");
    system.until("rolled back", |pair| pair["state"] == "Failed");
    let history = system.history();
    assert!(history.iter().any(|to| to == "Shifting.Advancing"), "{history:?}");
    assert!(
        history.iter().any(|to| to.starts_with("RollingBack")),
        "{history:?}"
    );
    assert_eq!(system.pair().unwrap()["share_set"], 0.0);
}

#[test]
fn a_controller_that_is_killed_goes_on_where_it_was_and_nobody_notices() {
    let mut system = System::start();
    system.order("promote");
    system.until("under way", |pair| pair["state"] == "Shifting.Advancing");
    let before = system.pair().unwrap();
    system.controller.kill().unwrap();
    system.controller.wait().unwrap();
    // Users are served by the plan that the proxy has.
    for user in 0..40 {
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\nx-user: v{user}\r\nConnection: close\r\n\r\n");
        assert!(exchange(system.proxy.users, request.as_bytes()).starts_with("HTTP/1.1 200"));
    }
    system.controller = run(&system.file);
    system.until("leads again", |pair| {
        pair["round"] == before["round"] && pair["share_actual"].is_number()
    });
    let after = system.pair().unwrap();
    assert!(
        after["share_set"].as_f64() >= before["share_set"].as_f64(),
        "{before} {after}"
    );
    assert!(system.history().len() >= 3);
    // The audit survives, too.
    let (_, audit) = client::request(system.api, "GET", "/v1/audit", "").unwrap();
    assert!(audit.contains("to see what happens"), "{audit}");
}

// Concept: endpoint-shadow-choice
#[test]
fn a_pair_that_names_no_shadow_gets_the_far_one_for_good_and_its_users_are_served_there() {
    let mut system = System::of(&Written {
        policy: "",
        controller: "  pairs: [{ cluster: shop, primary: a }]\n  placement:\n    endpoints:\n      \
            - { cluster: shop, name: a, site: 53.35 -6.26, region: eu-west }\n      \
            - { cluster: shop, name: near, site: 53.35 -6.26, region: eu-west }\n      \
            - { cluster: shop, name: far, site: 59.33 18.07, region: eu-north }\n"
            .to_owned(),
        named: "",
        standbys: &["near", "far"],
    });
    let explained = |system: &System| {
        let explained = Command::new(binary("foreshade"))
            .args(["--server", &format!("http://{}", system.api), "explain", "shop/a"])
            .output()
            .unwrap();
        String::from_utf8(explained.stdout).unwrap()
    };
    assert_eq!(system.pair().unwrap()["shadow"], "far");
    let why = explained(&system);
    assert!(
        why.contains("far scores") && why.contains("near scores") && why.contains("distance 1628 km"),
        "{why}"
    );
    system.controller.kill().unwrap();
    system.controller.wait().unwrap();
    system.controller = run(&system.file);
    system.until("warm again", |pair| pair["share_actual"].is_number());
    assert_eq!(
        (system.pair().unwrap()["shadow"].as_str(), system.history().len()),
        (Some("far"), 3),
        "{:?}",
        system.history()
    );
    system.order("promote");
    system.until("under way", |pair| pair["share_actual"].as_f64() > Some(0.0));
    // A few of them at first: of forty users one in twenty may be nobody.
    system.proxy.wait_until("some are served there", |proxy| {
        (0..40).any(|user| {
            let request =
                format!("GET / HTTP/1.1\r\nHost: x\r\nx-user: w{user}\r\nConnection: close\r\n\r\n");
            exchange(proxy.users, request.as_bytes()).ends_with("far")
        })
    });
}

/// A hook that takes everything, and remembers the metadata of what it was told.
fn chat() -> (Scripted, Arc<Mutex<Vec<Value>>>) {
    let told = Arc::<Mutex<Vec<Value>>>::default();
    let heard = told.clone();
    let hook = Scripted::start(move |stream| {
        let (mut bytes, mut byte) = (Vec::new(), [0]);
        while stream.read(&mut byte).is_ok_and(|n| n > 0) {
            bytes.extend_from_slice(&byte);
            if let Ok(body) = serde_json::from_slice::<Value>(&bytes) {
                heard.lock().unwrap().push(body["metadata"].clone());
                break;
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    (hook, told)
}

/// The line that has this hook told of this.
fn notified(hook: &Scripted, on: &str) -> String {
    let address = hook.address;
    format!("  notifications: [{{ name: chat, webhook: \"http://{address}/hook\", \"on\": [{on}] }}]\n")
}

impl System {
    fn see(&self, path: &str) -> Value {
        let (status, body) = client::request(self.api, "GET", path, "").unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until something is so, which may take a tick or two.
    fn soon<T>(&mut self, what: &str, found: impl Fn() -> Option<T>) -> T {
        let mut result = None;
        self.proxy.wait_until(what, |_| {
            result = found();
            result.is_some()
        });
        result.unwrap()
    }
}

#[test]
fn a_gate_that_waits_is_told_with_a_link_and_the_link_opens_it() {
    let (hook, told) = chat();
    let gates = ", gates: [{ name: release, before: shift }]";
    let mut system = System::start_with(gates, notified(&hook, "gate"));
    system.order("promote");
    let waiting = system.soon("a message that the gate waits", || {
        told.lock().unwrap().first().cloned()
    });
    assert_eq!(
        (&waiting["gate"], &waiting["before"], &waiting["standing"]),
        (&json!("release"), &json!("shift"), &json!("waiting"))
    );
    let gate = system.see("/v1/pairs/shop/a")["gates"][0].clone();
    assert_eq!(gate["standing"], "waiting");
    assert!(gate["link"].is_string(), "{gate}");
    let link = waiting["link"].as_str().unwrap();
    let path = link.strip_prefix("https://foreshade.example").unwrap();
    let press = format!(
        "POST {path}&answer=approve HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let pressed = exchange(system.api, press.as_bytes());
    assert!(pressed.starts_with("HTTP/1.1 200"), "{pressed}");
    let opened = system.soon("a message that it was opened", || {
        told.lock().unwrap().get(1).cloned()
    });
    assert_eq!(
        (&opened["gate"], &opened["actor"]),
        (&json!("release"), &json!("link"))
    );
    let said = system.see("/v1/pairs/shop/a")["gates"][0]["said"].clone();
    assert_eq!(said, "approved by link: by a signed link");
    system.until("under way", |pair| pair["state"] == "Shifting.Advancing");
}

// Concept: region-drill
#[test]
fn a_drill_is_told_when_it_begins_and_when_it_ends() {
    let (hook, told) = chat();
    let mut system = System::start_with("", notified(&hook, "drill"));
    let drill = json!({ "pair": { "cluster": "shop", "primary": "a" }, "scenario": "primary_gone" });
    let (status, begun) = system.post("/v1/drills", drill);
    assert_eq!(status, 200, "{begun}");
    let id = begun["drill"].as_u64().unwrap_or_else(|| panic!("{begun}"));
    let ended = system.soon("a message that the drill has ended", || {
        told.lock().unwrap().get(1).cloned()
    });
    let first = told.lock().unwrap()[0].clone();
    assert_eq!(
        (&first["drill"], &first["result"], &first["actor"]),
        (&json!(id.to_string()), &json!("Running"), &json!("tests"))
    );
    assert_eq!(
        (&ended["drill"], &ended["result"], &ended["scenario"]),
        (
            &json!(id.to_string()),
            &json!("Succeeded"),
            &json!("primary_gone")
        )
    );
    assert!(ended["rto_ms"].is_string(), "{ended}");
    assert_eq!(system.see(&format!("/v1/drills/{id}"))["result"], "succeeded");
}

#[test]
fn what_is_set_and_waived_by_hand_says_by_whom_and_why() {
    let system = System::start();
    let set = json!({ "what": "ceiling", "value": 0.2, "ttl": "10m" });
    assert_eq!(system.post("/v1/pairs/shop/a/override", set).0, 200);
    let waived = json!({ "rule": "delta", "ttl": "10m" });
    assert_eq!(system.post("/v1/pairs/shop/a/waive", waived).0, 200);
    let pair = system.see("/v1/pairs/shop/a");
    for shown in [&pair["overrides"][0], &pair["waived"][0]] {
        assert_eq!(
            (&shown["actor"], &shown["reason"]),
            (&json!("tests"), &json!("to see what happens")),
            "{pair}"
        );
    }
    assert_eq!(pair["waived"][0]["rule"], "delta");
}

#[test]
fn what_would_become_of_a_pair_is_said_and_not_done() {
    let system = System::start();
    let gone = system.see("/v1/pairs/shop/a/simulation?suppose=primary_gone");
    assert_eq!(gone["told"][0]["to"], "FailedOver", "{gone}");
    let calm = system.see("/v1/pairs/shop/a/simulation");
    assert_eq!((&calm["told"], &calm["state"]), (&json!([]), &json!("Warm.Idle")));
    let pair = system.pair().unwrap();
    assert_eq!(pair["state"], "Warm.Idle");
    // Who serves is who served then, so there is nothing to undo; and nobody knows what is still to come.
    let now = pair["generation"].as_u64().unwrap();
    let (status, undone) = system.post("/v1/pairs/shop/a/undo", json!({ "to": now }));
    assert_eq!((status, &undone["changed"]), (200, &json!(false)), "{undone}");
    assert_eq!(
        system.post("/v1/pairs/shop/a/undo", json!({ "to": now + 9 })).0,
        404
    );
}
