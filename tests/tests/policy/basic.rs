//! Users with names and passwords.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foreshade_tests::proxy::binary;
use foreshade_tests::recording::{Recording, requests};

use crate::stand::{Answer, Stand};

/// A file of users, removed when dropped.
struct UsersFile(PathBuf);

impl UsersFile {
    fn new(test: &str) -> Self {
        Self(std::env::temp_dir().join(format!("foreshade-users-{}-{test}", std::process::id())))
    }

    /// Has the program write its lines.
    fn write(&self, users: &[(&str, &str)]) {
        self.write_with(users, "1000");
    }

    /// With so many rounds of hashing.
    fn write_with(&self, users: &[(&str, &str)], rounds: &str) {
        let lines: Vec<_> = users
            .iter()
            .map(|(name, password)| line(name, password, rounds))
            .collect();
        std::fs::write(&self.0, lines.concat()).unwrap();
        std::fs::set_permissions(&self.0, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for UsersFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn line(name: &str, password: &str, rounds: &str) -> String {
    let mut program = Command::new(binary("foreshade-proxy"))
        .args(["password", "--user", name, "--rounds", rounds])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    program
        .stdin
        .take()
        .unwrap()
        .write_all(password.as_bytes())
        .unwrap();
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn route(file: &UsersFile) -> String {
    format!(
        "{{ cluster: shop, basicAuth: {{ usersFile: {}, realm: the shop, userHeader: x-user }}, \
         cors: {{ origins: ['https://shop.example'] }} }}",
        file.path().display()
    )
}

fn ask(stand: &Stand, client: &str, credentials: &str, headers: &str) -> Answer {
    let credentials = STANDARD.encode(credentials);
    let headers = format!("Authorization: Basic {credentials}\r\n{headers}");
    stand.ask_with(client, "GET", "/", &headers)
}

#[test]
fn only_users_come_in_and_endpoints_know_them_by_nobodys_word_but_ours() {
    for relay in [false, true] {
        let file = UsersFile::new(&format!("in-{relay}"));
        file.write(&[("anna", "open:sesame"), ("bob", "other")]);
        let endpoint = Recording::start();
        let mut stand = Stand::start(endpoint.address, relay, "", &[&route(&file)]);
        let asked = stand.ask("192.0.2.1", "/");
        assert_eq!(asked.status, 401);
        assert_eq!(
            asked.values("www-authenticate"),
            ["Basic realm=\"the shop\", charset=\"UTF-8\""]
        );
        assert_eq!(ask(&stand, "192.0.2.1", "anna:wrong", "").status, 401);
        assert_eq!(ask(&stand, "192.0.2.1", "carl:other", "").status, 401);
        assert_eq!(
            endpoint.take(),
            b"",
            "nobody who is not known reaches an endpoint"
        );
        let forged = "X-User: root\r\nX_User: root\r\n";
        assert_eq!(ask(&stand, "192.0.2.1", "anna:open:sesame", forged).status, 200);
        assert_eq!(ask(&stand, "192.0.2.1", "bob:other", "").status, 200);
        let arrived = endpoint.take();
        let heads: Vec<_> = requests(&arrived)
            .0
            .into_iter()
            .map(|r| r.head.to_lowercase())
            .collect();
        for (head, user) in heads.iter().zip(["anna", "bob"]) {
            assert!(head.contains(&format!("\r\nx-user: {user}")), "{head}");
            assert!(
                !head.contains("root") && !head.contains("authorization"),
                "{head}"
            );
        }
        assert_eq!(heads.len(), 2);
        stand.refused("unauthorized", 3);
    }
}

#[test]
fn a_preflight_needs_no_password() {
    let file = UsersFile::new("preflight");
    file.write(&[("anna", "a")]);
    let endpoint = Recording::start();
    let stand = Stand::start(endpoint.address, false, "", &[&route(&file)]);
    let preflight = "Origin: https://shop.example\r\nAccess-Control-Request-Method: POST\r\n";
    assert_eq!(stand.ask_with("192.0.2.1", "OPTIONS", "/", preflight).status, 204);
    let origin = "Origin: https://shop.example\r\n";
    let asked = stand.ask_with("192.0.2.1", "GET", "/", origin);
    assert_eq!(asked.status, 401);
    assert_eq!(
        asked.values("access-control-allow-origin"),
        ["https://shop.example"]
    );
}

#[test]
fn a_listener_may_ask_and_then_tells_strangers_nothing_of_its_routes() {
    let file = UsersFile::new("listener");
    file.write(&[("anna", "a")]);
    let endpoint = Recording::start();
    let listener = format!("basicAuth: {{ usersFile: {} }}", file.path().display());
    let routes = ["{ match: { path: { exact: /text } }, respond: { status: 200, body: hello } }"];
    let stand = Stand::start(endpoint.address, false, &listener, &routes);
    for target in ["/text", "/nowhere"] {
        assert_eq!(stand.ask("192.0.2.1", target).status, 401, "{target}");
    }
    let known = format!("Authorization: Basic {}\r\n", STANDARD.encode("anna:a"));
    assert_eq!(stand.ask_with("192.0.2.1", "GET", "/text", &known).status, 200);
    assert_eq!(stand.ask_with("192.0.2.1", "GET", "/nowhere", &known).status, 404);
}

#[test]
fn without_its_file_nobody_comes_in_and_it_is_read_when_it_is_there() {
    let file = UsersFile::new("missing");
    let endpoint = Recording::start();
    let mut stand = Stand::start(endpoint.address, false, "", &[&route(&file)]);
    assert_eq!(ask(&stand, "192.0.2.1", "anna:a", "").status, 503);
    stand.refused("login_unavailable", 1);
    file.write(&[("anna", "a")]);
    assert_eq!(ask(&stand, "192.0.2.1", "anna:a", "").status, 200);
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    file.write(&[("anna", "changed"), ("bob", "b")]);
    assert_eq!(ask(&stand, "192.0.2.2", "bob:b", "").status, 200);
    assert_eq!(
        ask(&stand, "192.0.2.2", "anna:a", "").status,
        401,
        "a changed file forgets everybody"
    );
}

#[test]
fn who_guesses_is_made_to_wait_and_nobody_else_is() {
    let file = UsersFile::new("guesses");
    file.write(&[("anna", "a")]);
    let endpoint = Recording::start();
    let mut stand = Stand::start(endpoint.address, false, "", &[&route(&file)]);
    let guess = |n: u32| ask(&stand, "192.0.2.1", &format!("anna:{n}"), "");
    // One in two seconds comes back meanwhile.
    let slowed = (0..200).map(guess).find(|answer| answer.status != 401).unwrap();
    assert_eq!(slowed.status, 429);
    assert!(!slowed.values("retry-after").is_empty(), "{}", slowed.head);
    assert_eq!(ask(&stand, "192.0.2.2", "anna:a", "").status, 200);
    stand.refused("too_many_attempts", 1);
}

#[test]
fn a_page_full_of_requests_waits_for_one_hash() {
    let file = UsersFile::new("page");
    // Slow, so that those who had a hash each would be too many attempts.
    file.write_with(&[("anna", "a")], "600000");
    let endpoint = Recording::start();
    let stand = Stand::start(endpoint.address, false, "", &[&route(&file)]);
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..30)
            .map(|_| scope.spawn(|| ask(&stand, "192.0.2.1", "anna:a", "").status))
            .collect();
        for status in asked {
            assert_eq!(status.join().unwrap(), 200);
        }
    });
}
