//! Tokens that somebody else has signed (RFC 7519), as `Authorization: Bearer`.
//!
//! A signature is held against a key in tens of microseconds, so the worker does it himself. The keys come from a file
//! or a URL, read beside and again when it is time; without them nobody is let in. Everything else that a token has to
//! say is asked for, and what it does not say counts against it: an expiry, the issuer, an audience. Claims go to
//! endpoints in headers that no client can send.
//!
//! What is not spoken here: tokens that are encrypted, symmetric keys (whoever checks could also forge), `none`, and
//! anything `crit`ical. Source of the pitfalls: RFC 8725.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foreshade_engine::moment::Moment;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::oneshot;

use super::followed::Watched;
use super::jwks::fetch::Place;
use super::jwks::remote::{Remote, Why};
use super::jwks::{Algorithm, Keys, KeysError};
use super::marks::Marks;
use super::{Denial, Reason};
use crate::fields::Fields;
use crate::request::RequestView;
use crate::tls::origination::Origination;

/// Longest token.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What a token has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who signs.
    pub keys: KeysFrom,
    /// Its `iss`.
    pub issuer: String,
    /// One of these is its `aud`.
    pub audiences: Vec<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// Claims, and the headers that tell endpoints.
    pub claims: Vec<(String, HeaderName)>,
}

/// Where keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysFrom {
    /// A file.
    File(PathBuf),
    /// A URL.
    Url(Place),
}

/// Asks for tokens.
#[derive(Debug)]
pub struct Jwt {
    settings: Settings,
    keys: Source,
}

/// Keys, and how they are kept up to date.
#[derive(Debug)]
enum Source {
    File(Arc<Watched<Keys, KeysError>>),
    Url(Arc<Remote>),
}

/// What becomes of a request.
pub(crate) enum Token {
    /// Its token is good, and says this.
    Says(Value),
    /// It goes no further.
    Denied(Denial),
    /// The keys have to be read first.
    Waits(oneshot::Receiver<()>),
}

#[derive(Deserialize)]
struct Header {
    alg: Algorithm,
    kid: Option<String>,
    crit: Option<Value>,
}

impl Jwt {
    /// Without keys yet.
    pub fn new(settings: Settings) -> Self {
        let keys = match &settings.keys {
            KeysFrom::File(path) => Source::File(Arc::new(Watched::new(path.clone(), Keys::load))),
            KeysFrom::Url(place) => Source::Url(Arc::new(Remote::new(place.clone()))),
        };
        Self { settings, keys }
    }

    /// Keys of a URL; `None` where they are in a file.
    pub fn remote(&self) -> Option<&Arc<Remote>> {
        match &self.keys {
            Source::File(_) => None,
            Source::Url(remote) => Some(remote),
        }
    }

    /// What an issuer is spoken to with, where that is TLS.
    pub fn origination(&self) -> Option<&Arc<Origination>> {
        match &self.settings.keys {
            KeysFrom::File(_) => None,
            KeysFrom::Url(place) => place.tls.as_ref(),
        }
    }

    /// The same, with keys that are fetched already.
    pub(super) fn sharing(&self, remote: &Arc<Remote>) -> Self {
        Self {
            settings: self.settings.clone(),
            keys: Source::Url(remote.clone()),
        }
    }

    /// What a request's token says. `waited` is one that has waited for the keys already.
    pub(crate) fn ask(&self, view: &RequestView<'_>, now: Moment, waited: bool) -> Token {
        let Some(token) = bearer(view) else {
            return Token::Denied(challenge(Reason::Unauthorized, "Bearer"));
        };
        let (looking, keys) = match &self.keys {
            Source::File(file) => (file.look(now, true), file.content()),
            Source::Url(remote) => {
                let keys = remote.content();
                let why = if keys.is_some() {
                    Why::Routine
                } else {
                    Why::Missing
                };
                (remote.look(now, why), keys)
            }
        };
        // Keys of a file that are being read again are good until they are read, and so are those of a URL but for late ones.
        let is_waited_for = keys.is_none() || self.remote().is_some();
        if let Some(read) = looking.filter(|_| !waited && is_waited_for) {
            return Token::Waits(read);
        }
        let Some(keys) = keys.as_deref() else {
            return Token::Denied(Denial::of(Reason::LoginUnavailable).come_back_in(1));
        };
        let unix_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let unix_s = unix_s.map_or(f64::INFINITY, |since| since.as_secs_f64());
        if let Some(claims) = self.claims(token, keys, unix_s) {
            return Token::Says(claims);
        }
        // Keys may have been exchanged.
        let fetching = self
            .remote()
            .filter(|_| !waited && names_another(token, keys))
            .and_then(|remote| remote.look(now, Why::Unknown));
        match fetching {
            Some(read) => Token::Waits(read),
            None => Token::Denied(challenge(Reason::TokenRefused, "Bearer error=\"invalid_token\"")),
        }
    }

    /// The claims of a token that is good at `unix_s`; `None` where anything is missing.
    fn claims(&self, token: &[u8], keys: &Keys, unix_s: f64) -> Option<Value> {
        let mut parts = token.split(|byte| *byte == b'.');
        let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let message = token.get(..header.len() + 1 + payload.len())?;
        let decoded = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).ok();
        let header: Header = serde_json::from_slice(&decoded(header)?).ok()?;
        let signature = decoded(signature)?;
        let known = header.crit.is_none();
        if !known || !keys.signed(header.alg, header.kid.as_deref(), message, &signature) {
            return None;
        }
        let claims: Value = serde_json::from_slice(&decoded(payload)?).ok()?;
        self.accepts(&claims, unix_s).then_some(claims)
    }

    fn accepts(&self, claims: &Value, unix_s: f64) -> bool {
        let Settings {
            issuer,
            audiences,
            leeway,
            ..
        } = &self.settings;
        let leeway_s = leeway.as_secs_f64();
        let is_meant = |audience: &Value| {
            audience
                .as_str()
                .is_some_and(|a| audiences.iter().any(|ours| ours == a))
        };
        let audience = claims.get("aud");
        let meant = audience.is_some_and(|audience| match audience {
            Value::Array(several) => several.iter().any(is_meant),
            one => is_meant(one),
        });
        let lives = claims
            .get("exp")
            .and_then(Value::as_f64)
            .is_some_and(|exp| unix_s < exp + leeway_s);
        let begun = match claims.get("nbf") {
            None => true,
            Some(nbf) => nbf.as_f64().is_some_and(|nbf| unix_s + leeway_s >= nbf),
        };
        let ours = claims.get("iss").and_then(Value::as_str) == Some(issuer);
        meant && lives && begun && ours
    }

    /// What endpoints are told, and that nobody else tells them.
    pub(crate) fn mark(&self, claims: &Value, came: Fields<'_>, marks: &mut Marks) {
        for (claim, header) in &self.settings.claims {
            let text = match claims.get(claim) {
                Some(Value::String(text)) => Some(text.clone()),
                Some(plain @ (Value::Number(_) | Value::Bool(_))) => Some(plain.to_string()),
                _ => None,
            };
            marks.replace(
                header,
                came,
                text.and_then(|text| HeaderValue::try_from(text).ok()),
            );
        }
    }

    /// In a line.
    pub fn in_words(&self) -> String {
        format!("asks for a token of {}", self.settings.issuer)
    }
}

impl PartialEq for Jwt {
    /// Equal where they ask for the same, whatever they have read.
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

/// Whether a token names a key that is not among these.
fn names_another(token: &[u8], keys: &Keys) -> bool {
    let header = token.split(|byte| *byte == b'.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).ok();
    let header: Option<Header> = header.and_then(|header| serde_json::from_slice(&header).ok());
    header
        .and_then(|header| header.kid)
        .is_some_and(|kid| !keys.has(&kid))
}

/// The token of a request that has one, and one only.
fn bearer<'a>(view: &RequestView<'a>) -> Option<&'a [u8]> {
    let sent = view.headers.only(&AUTHORIZATION)?;
    let (scheme, token) = sent.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && token.len() <= TOKEN_BYTES_MAX).then_some(token)
}

/// Source: RFC 6750 section 3.
fn challenge(reason: Reason, value: &'static str) -> Denial {
    let mut denial = Denial::of(reason);
    denial
        .headers
        .insert(WWW_AUTHENTICATE, HeaderValue::from_static(value));
    denial
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
        RsaKeyPair,
    };
    use http::HeaderMap;
    use serde_json::json;

    const NOW: f64 = 1_800_000_000.0;

    fn encoded(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The two numbers of an RSA key in DER (RFC 8017, appendix A.1.1), without the zero that keeps them positive.
    fn integers(der: &[u8]) -> [&[u8]; 2] {
        // Where the content of the first item begins, and how long it is.
        let item = |der: &[u8]| -> (usize, usize) {
            match usize::from(der[1]) {
                long if long > 0x80 => {
                    let digits = &der[2..2 + (long - 0x80)];
                    let length = digits
                        .iter()
                        .fold(0, |length, digit| length << 8 | usize::from(*digit));
                    (2 + digits.len(), length)
                }
                short => (2, short),
            }
        };
        let inside = &der[item(der).0..];
        let (start, length) = item(inside);
        let (n, rest) = inside[start..].split_at(length);
        let (start, length) = item(rest);
        [n, &rest[start..start + length]].map(|number| number.strip_prefix(&[0]).unwrap_or(number))
    }

    /// One key of each kind, made for this run.
    struct Issuer {
        rsa: RsaKeyPair,
        ec: EcdsaKeyPair,
        ed: Ed25519KeyPair,
    }

    impl Issuer {
        fn new() -> Self {
            Self {
                rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
                ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
                ed: Ed25519KeyPair::generate().unwrap(),
            }
        }

        fn keys(&self) -> Value {
            let [n, e] = integers(self.rsa.public_key().as_ref());
            let point = self.ec.public_key().as_ref();
            json!({ "keys": [
                { "kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256",
                  "n": encoded(n), "e": encoded(e) },
                { "kty": "EC", "kid": "e", "crv": "P-256", "x": encoded(&point[1..33]), "y": encoded(&point[33..]) },
                { "kty": "OKP", "kid": "d", "crv": "Ed25519", "x": encoded(self.ed.public_key()) },
                { "kty": "oct", "k": "c2VjcmV0" },
                { "kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB" },
            ] })
        }

        fn sign(&self, kind: &str, message: &[u8]) -> Vec<u8> {
            let random = SystemRandom::new();
            match kind {
                "RS256" => {
                    let mut signature = vec![0; self.rsa.public_modulus_len()];
                    self.rsa
                        .sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                        .unwrap();
                    signature
                }
                "ES256" => self.ec.sign(&random, message).unwrap().as_ref().to_vec(),
                _ => self.ed.sign(message).as_ref().to_vec(),
            }
        }

        fn token(&self, kind: &str, header: &Value, claims: &Value) -> String {
            let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
            let signature = self.sign(kind, message.as_bytes());
            format!("{message}.{}", encoded(signature))
        }
    }

    fn jwt() -> Jwt {
        Jwt::new(Settings {
            keys: KeysFrom::File("/nowhere/keys".into()),
            issuer: "https://issuer.example".to_owned(),
            audiences: vec!["shop".to_owned(), "api".to_owned()],
            leeway: Duration::from_secs(30),
            claims: vec![
                ("sub".to_owned(), HeaderName::from_static("x-user")),
                ("level".to_owned(), HeaderName::from_static("x-level")),
            ],
        })
    }

    fn good() -> Value {
        json!({ "iss": "https://issuer.example", "aud": "shop", "exp": NOW + 60.0, "sub": "anna", "level": 7 })
    }

    fn keys(issuer: &Issuer) -> Keys {
        Keys::parse(issuer.keys().to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_token_of_each_kind_is_good_with_its_own_key_and_no_other() {
        let issuer = Issuer::new();
        let keys = keys(&issuer);
        for (kind, kid) in [("RS256", "r"), ("ES256", "e"), ("EdDSA", "d")] {
            let token = issuer.token(kind, &json!({ "alg": kind, "kid": kid }), &good());
            assert!(jwt().claims(token.as_bytes(), &keys, NOW).is_some(), "{kind}");
            let without = issuer.token(kind, &json!({ "alg": kind }), &good());
            assert!(
                jwt().claims(without.as_bytes(), &keys, NOW).is_some(),
                "{kind} without kid"
            );
            let other = issuer.token(kind, &json!({ "alg": kind, "kid": "x" }), &good());
            assert!(
                jwt().claims(other.as_bytes(), &keys, NOW).is_none(),
                "{kind} with another kid"
            );
            let stranger = Issuer::new().token(kind, &json!({ "alg": kind, "kid": kid }), &good());
            assert!(
                jwt().claims(stranger.as_bytes(), &keys, NOW).is_none(),
                "{kind} of a stranger"
            );
            let (head, signature) = token.rsplit_once('.').unwrap();
            let changed = encoded(json!({ "sub": "root" }).to_string());
            let forged = format!("{}.{changed}.{signature}", head.split('.').next().unwrap());
            assert!(
                jwt().claims(forged.as_bytes(), &keys, NOW).is_none(),
                "{kind} changed"
            );
        }
    }

    #[test]
    fn no_word_of_the_token_makes_it_good() {
        let issuer = Issuer::new();
        let keys = keys(&issuer);
        for header in [
            json!({ "alg": "none" }),
            json!({ "alg": "HS256", "kid": "r" }),
            json!({ "alg": "ES256", "kid": "r" }),
            json!({ "alg": "RS256", "kid": "r", "crit": ["exp"] }),
            json!({ "kid": "r" }),
        ] {
            let token = issuer.token("RS256", &header, &good());
            assert!(jwt().claims(token.as_bytes(), &keys, NOW).is_none(), "{header}");
            let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
            assert!(
                jwt().claims(unsigned.as_bytes(), &keys, NOW).is_none(),
                "{header} unsigned"
            );
        }
        for text in ["", ".", "..", "a.b.c", "a.b.c.d", "e30.e30.e30"] {
            assert!(jwt().claims(text.as_bytes(), &keys, NOW).is_none(), "{text}");
        }
    }

    #[test]
    fn what_a_token_does_not_say_counts_against_it() {
        let accepts = |name: &str, value: Value| {
            let mut claims = good();
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value,
            }
            jwt().accepts(&claims, NOW)
        };
        assert!(jwt().accepts(&good(), NOW));
        for (name, value, is) in [
            ("exp", Value::Null, false),
            ("exp", json!(NOW - 29.0), true),
            ("exp", json!(NOW - 30.0), false),
            ("exp", json!("1900000000"), false),
            ("nbf", json!(NOW + 30.0), true),
            ("nbf", json!(NOW + 31.0), false),
            ("nbf", json!("soon"), false),
            ("iss", Value::Null, false),
            ("iss", json!("https://issuer.example/"), false),
            ("aud", Value::Null, false),
            ("aud", json!("other"), false),
            ("aud", json!(["other", "api"]), true),
            ("aud", json!([]), false),
        ] {
            assert_eq!(accepts(name, value.clone()), is, "{name} {value}");
        }
    }

    #[test]
    fn claims_reach_endpoints_from_nobody_else() {
        let mut headers = HeaderMap::new();
        for name in ["x-user", "x_user", "x-level"] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("forged"));
        }
        let mut claims = good();
        claims["level"] = json!(["a", "list"]);
        let mut marks = Marks::default();
        jwt().mark(&claims, Fields::from(&headers), &mut marks);
        marks.apply(&mut headers);
        assert_eq!(headers["x-user"], "anna");
        assert!(
            !headers.contains_key("x_user") && !headers.contains_key("x-level"),
            "{headers:?}"
        );
    }

    #[test]
    fn a_file_that_could_not_check_anything_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"keys":[]}"#,
            r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
            r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#,
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AQAB"}]}"#,
        ] {
            assert!(Keys::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn without_keys_nobody_is_let_in_and_they_are_read_when_they_are_there() {
        let issuer = Issuer::new();
        let path = std::env::temp_dir().join(format!("foreshade-keys-{}", std::process::id()));
        let settings = Settings {
            keys: KeysFrom::File(path.clone()),
            ..jwt().settings
        };
        let jwt = Arc::new(Jwt::new(settings));
        let in_an_hour = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
            + 3600;
        let mut claims = good();
        claims["exp"] = json!(in_an_hour);
        let token = format!(
            "Bearer {}",
            issuer.token("EdDSA", &json!({ "alg": "EdDSA" }), &claims)
        );
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::try_from(token).unwrap())]);
        let view = RequestView::of("GET", &headers);
        let ask = |ms: u64, waited| jwt.ask(&view, Moment::from_micros(ms * 1000), waited);
        let Token::Waits(read) = ask(1, false) else {
            panic!("the keys are read first");
        };
        read.await.unwrap();
        assert!(matches!(ask(2, true), Token::Denied(denial) if denial.reason == Reason::LoginUnavailable));
        std::fs::write(&path, issuer.keys().to_string()).unwrap();
        if let Token::Waits(read) = ask(3, false) {
            read.await.unwrap();
        }
        assert!(matches!(ask(4, true), Token::Says(_)));
        // Keys that are withdrawn do not count any more.
        std::fs::write(&path, Issuer::new().keys().to_string()).unwrap();
        let Source::File(file) = &jwt.keys else {
            panic!("they are in a file");
        };
        let read = file
            .look(Moment::from_micros(2_000_000), false)
            .expect("it is time to look");
        read.await.unwrap();
        assert!(matches!(ask(2_001, true), Token::Denied(denial) if denial.reason == Reason::TokenRefused));
        std::fs::remove_file(&path).unwrap();
    }
}
