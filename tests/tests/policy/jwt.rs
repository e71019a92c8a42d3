//! Tokens that somebody else has signed.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foreshade_tests::recording::{Recording, requests};

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
        let x = base64url(self.key.public_key().as_ref());
        let keys = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k","x":"{x}"}}]}}"#);
        std::fs::write(&self.file, keys).unwrap();
    }

    fn token(&self, subject: &str, lives_s: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let exp = now.saturating_add_signed(lives_s);
        let head = base64url(br#"{"alg":"EdDSA","kid":"k"}"#);
        let claims =
            format!(r#"{{"iss":"https://issuer.example","aud":"shop","exp":{exp},"sub":"{subject}"}}"#);
        let message = format!("{head}.{}", base64url(claims.as_bytes()));
        let signature = base64url(self.key.sign(message.as_bytes()).as_ref());
        format!("{message}.{signature}")
    }

    fn route(&self) -> String {
        format!(
            "{{ cluster: shop, jwt: {{ keysFile: {}, issuer: 'https://issuer.example', audiences: [shop], \
             claims: [{{ claim: sub, header: x-user }}] }} }}",
            self.file.display()
        )
    }
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
