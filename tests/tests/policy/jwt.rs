//! Tokens that somebody else has signed.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foreshade_tests::certificates::Folder;
use foreshade_tests::recording::{Recording, requests};
use foreshade_tests::tls_server;
use foreshade_tests::wire::{Scripted, exchange, serving};

use crate::stand::{Answer, Stand};

/// Somebody who signs, and the file with his key.
struct Issuer {
    key: Ed25519KeyPair,
    file: PathBuf,
}

impl Issuer {
    fn new(test: &str) -> Self {
        let key = Ed25519KeyPair::generate().unwrap();
        let file = std::env::temp_dir().join(format!("foreshade-jwks-{}-{test}", std::process::id()));
        Self { key, file }
    }

    fn publish(&self) {
        std::fs::write(&self.file, self.keys("k")).unwrap();
    }

    fn keys(&self, id: &str) -> String {
        let x = base64url(self.key.public_key().as_ref());
        format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{x}"}}]}}"#)
    }

    fn token(&self, subject: &str, lives_s: i64) -> String {
        self.token_by("k", subject, lives_s)
    }

    fn token_by(&self, id: &str, subject: &str, lives_s: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let exp = now.saturating_add_signed(lives_s);
        let head = base64url(format!(r#"{{"alg":"EdDSA","kid":"{id}"}}"#).as_bytes());
        let claims =
            format!(r#"{{"iss":"https://issuer.example","aud":"shop","exp":{exp},"sub":"{subject}"}}"#);
        let message = format!("{head}.{}", base64url(claims.as_bytes()));
        let signature = base64url(self.key.sign(message.as_bytes()).as_ref());
        format!("{message}.{signature}")
    }

    fn route(&self) -> String {
        route(&format!("keysFile: {}", self.file.display()))
    }
}

fn route(keys: &str) -> String {
    format!(
        "{{ name: api, cluster: shop, jwt: {{ {keys}, issuer: 'https://issuer.example', audiences: [shop], claims: [{{ \
         claim: sub, header: x-user }}] }} }}"
    )
}

impl Drop for Issuer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn ask(stand: &Stand, token: &str) -> Answer {
    let headers = format!("Authorization: Bearer {token}\r\nX-User: root\r\nX_User: root\r\n");
    stand.ask_with("192.0.2.1", "GET", "/", &headers)
}

#[test]
fn who_has_a_good_token_comes_in_and_endpoints_hear_its_claims_from_nobody_else() {
    for relay in [false, true] {
        let (issuer, stranger) = (Issuer::new(&format!("good-{relay}")), Issuer::new("stranger"));
        issuer.publish();
        let endpoint = Recording::start();
        let mut stand = Stand::start(endpoint.address, relay, "", &[&issuer.route()]);
        let asked = stand.ask("192.0.2.1", "/");
        assert_eq!(
            (asked.status, asked.values("www-authenticate")),
            (401, vec!["Bearer"])
        );
        for token in [
            stranger.token("anna", 3600),
            issuer.token("anna", -3600),
            "a.b.c".to_owned(),
        ] {
            let refused = ask(&stand, &token);
            assert_eq!(refused.status, 401, "{token}");
            assert_eq!(
                refused.values("www-authenticate"),
                ["Bearer error=\"invalid_token\""]
            );
        }
        assert_eq!(
            endpoint.take(),
            b"",
            "nobody who is not known reaches an endpoint"
        );
        assert_eq!(ask(&stand, &issuer.token("anna", 3600)).status, 200);
        let arrived = endpoint.take();
        let head = requests(&arrived).0.remove(0).head.to_lowercase();
        assert!(
            head.contains("\r\nx-user: anna") && !head.contains("root"),
            "{head}"
        );
        stand.refused("unauthorized", 1);
        stand.refused("token_refused", 3);
    }
}

#[test]
fn without_keys_nobody_comes_in_and_they_are_read_when_they_are_there() {
    let issuer = Issuer::new("missing");
    let endpoint = Recording::start();
    let mut stand = Stand::start(endpoint.address, false, "", &[&issuer.route()]);
    let token = issuer.token("anna", 3600);
    assert_eq!(ask(&stand, &token).status, 503);
    stand.refused("login_unavailable", 1);
    issuer.publish();
    assert_eq!(ask(&stand, &token).status, 200);
}

/// Keys behind a URL.
struct Published {
    endpoint: Scripted,
    answer: Arc<Mutex<String>>,
}

impl Published {
    fn start(answer: &str) -> Self {
        let answer = Arc::new(Mutex::new(answer.to_owned()));
        let said = answer.clone();
        let endpoint = Scripted::start(move |stream| {
            // The proxy may have gone.
            let _ = stream.write_all(said.lock().unwrap().as_bytes());
        });
        Self { endpoint, answer }
    }

    fn say(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().unwrap());
    }

    fn url(&self) -> String {
        format!("http://{}/keys?set=1", self.endpoint.address)
    }

    fn route(&self) -> String {
        route(&format!("keysUrl: '{}'", self.url()))
    }

    /// How often they were asked for since the last time.
    fn asked(&self) -> usize {
        std::iter::from_fn(|| self.endpoint.head_so_far()).count()
    }
}

const DOWN: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A good answer with these keys.
fn holding(keys: &str) -> String {
    let length = keys.len();
    format!(
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=300\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{keys}"
    )
}

/// The series of the fetches from a URL that had this result.
fn fetches(url: &str, result: &str) -> String {
    format!("foreshade_jwks_fetches_total{{url=\"{url}\",result=\"{result}\"}}")
}

#[test]
fn keys_are_fetched_before_anybody_asks_again_for_a_new_one_and_hold_while_the_issuer_is_down() {
    for relay in [false, true] {
        let (old, new) = (Issuer::new("old"), Issuer::new("new"));
        let published = Published::start(&holding(&old.keys("one")));
        let endpoint = Recording::start();
        let mut stand = Stand::start(endpoint.address, relay, "", &[&published.route()]);
        stand
            .proxy
            .wait_until("in possession of keys", |_| published.asked() > 0);
        stand.proxy.wait_until("aware of it", |p| {
            p.metric(&fetches(&published.url(), "ok")) == Some(1.0)
        });
        assert_eq!(ask(&stand, &old.token_by("one", "anna", 3600)).status, 200);
        assert_eq!(published.asked(), 0, "they are kept");
        published.say(&holding(&new.keys("two")));
        assert_eq!(
            ask(&stand, &new.token_by("two", "anna", 3600)).status,
            200,
            "a key that is not known yet"
        );
        assert_eq!(
            ask(&stand, &old.token_by("one", "anna", 3600)).status,
            401,
            "one that was withdrawn"
        );
        published.say(DOWN);
        for _ in 0..40 {
            assert_eq!(ask(&stand, &old.token_by("three", "anna", 3600)).status, 401);
        }
        assert!(published.asked() <= 10, "strangers have an issuer flooded");
        assert_eq!(
            ask(&stand, &new.token_by("two", "anna", 3600)).status,
            200,
            "the last good ones hold"
        );
    }
}

#[test]
fn without_keys_from_the_url_nobody_comes_in_and_it_is_tried_again() {
    let issuer = Issuer::new("down");
    let too_long = holding(&format!("{}{}", " ".repeat(300 * 1024), issuer.keys("one")));
    for broken in [
        DOWN,
        "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
        "no HTTP\r\n\r\n",
        &too_long,
    ] {
        let published = Published::start(broken);
        let endpoint = Recording::start();
        let mut stand = Stand::start(endpoint.address, false, "", &[&published.route()]);
        let token = issuer.token_by("one", "anna", 3600);
        let refused = ask(&stand, &token);
        assert_eq!((refused.status, refused.values("retry-after")), (503, vec!["1"]));
        assert_eq!(endpoint.take(), b"");
        assert!(stand.proxy.metric(&fetches(&published.url(), "failed")) >= Some(1.0));
        published.say(&holding(&issuer.keys("one")));
        let address = stand.proxy.users;
        stand.proxy.wait_until("able to let somebody in", |_| {
            let request = format!(
                "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
            );
            exchange(address, request.as_bytes()).starts_with("HTTP/1.1 200")
        });
    }
}

#[test]
fn an_issuer_has_to_prove_its_name() {
    let folder = Folder::new();
    let (ours, another) = (folder.authority("ours"), folder.authority("another"));
    let issuer = Issuer::new("tls");
    for (authority, name, is_believed) in [
        (&ours, "localhost", true),
        (&another, "localhost", false),
        (&ours, "other.example", false),
    ] {
        let answer = holding(&issuer.keys("one"));
        let files = authority.issue("issuer", &[name]);
        let config = tls_server::config(&files, None, tls_server::Speaks::Both);
        let address = serving(move |tcp| {
            let Ok(tls) = rustls::ServerConnection::new(config.clone()) else {
                return;
            };
            let mut stream = rustls::StreamOwned::new(tls, tcp);
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            let _ = stream.write_all(answer.as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        });
        let url = format!("https://localhost:{}/keys", address.port());
        let keys = format!("keysUrl: '{url}', keysCaFile: {}", ours.file.display());
        let endpoint = Recording::start();
        let mut stand = Stand::start(endpoint.address, false, "", &[&route(&keys)]);
        let expected = if is_believed { "ok" } else { "failed" };
        let series = fetches(&url, expected);
        stand
            .proxy
            .wait_until(expected, |p| p.metric(&series) >= Some(1.0));
        let status = ask(&stand, &issuer.token_by("one", "anna", 3600)).status;
        assert_eq!(status, if is_believed { 200 } else { 503 }, "{name}");
    }
}
