//! Links that open a gate with one click: for whoever is asked in a chat, on a telephone, without a token.
//!
//! A link is its own right: pair, gate, generation and end, signed with HMAC-SHA256 by a secret that only controllers
//! have. It is good for one gate of one course; when the pair has moved on, or its time is over, it opens nothing.
//! Following it shows a page with two buttons, and only a button orders: chats and mail scanners follow every link
//! that they see. (Flagger #1344 asked for such links.)

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use foreshade_contract::{Generation, Name, PairId};
use foreshade_engine::lifecycle::command::Command;
use maud::{DOCTYPE, Markup, html};
use serde::{Deserialize, Serialize};

use super::Api;
use crate::config::Links;
use crate::config::url::Url;
use crate::operator::view::{GateStanding, PairDetail};
use crate::operator::{Actor, Order, Reason};

/// Shortest secret: what the digest is worth.
const SECRET_BYTES_MIN: usize = 32;

/// Longest secret that is read.
const SECRET_BYTES_MAX: u64 = 4096;

/// Longest token: two names, two numbers and a signature are a third of it.
const TOKEN_CHARS_MAX: usize = 1024;

/// Who orders by a link.
const ACTOR: &str = "link";

/// Why a secret cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot be read")]
    Read(#[from] std::io::Error),
    /// It is too short to keep a secret.
    #[error("holds {0} bytes; a secret has at least {SECRET_BYTES_MIN}")]
    Short(usize),
}

/// Signs links, and knows its own.
#[derive(Clone, Debug)]
pub struct Signer {
    key: hmac::Key,
    url: Url,
    life: Duration,
}

/// What a link says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    pair: PairId,
    gate: Name,
    generation: Generation,
    until_ms: u64,
}

impl Signer {
    /// With the secret of the configuration.
    ///
    /// # Errors
    /// When the file holds none.
    pub fn load(links: &Links) -> Result<Self, SecretError> {
        let secret = secret(&links.key_file)?;
        Ok(Self::new(&secret, links.url.clone(), links.life))
    }

    fn new(secret: &[u8], url: Url, life: Duration) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
            url,
            life,
        }
    }

    /// A link to the page of one gate.
    pub fn link(&self, pair: &PairId, gate: &Name, generation: Generation, now_ms: u64) -> String {
        let life_ms = u64::try_from(self.life.as_millis()).unwrap_or(u64::MAX);
        let claim = Claim {
            pair: pair.clone(),
            gate: gate.clone(),
            generation,
            until_ms: now_ms.saturating_add(life_ms),
        };
        format!(
            "{}/v1/approve?token={}",
            self.url.to_string().trim_end_matches('/'),
            self.token(&claim)
        )
    }

    /// Puts links to the gates that something waits for.
    pub(super) fn sign_waiting(&self, pair: &PairId, detail: &mut PairDetail, now_ms: u64) {
        let generation = Generation(detail.summary.generation);
        for gate in detail
            .gates
            .iter_mut()
            .filter(|gate| gate.standing == GateStanding::Waiting)
        {
            gate.link = gate
                .name
                .parse()
                .ok()
                .map(|name| self.link(pair, &name, generation, now_ms));
        }
    }

    fn token(&self, claim: &Claim) -> String {
        // Names and numbers are JSON.
        let body = BASE64.encode(serde_json::to_vec(claim).unwrap_or_default());
        let signature = hmac::sign(&self.key, body.as_bytes());
        format!("{body}.{}", BASE64.encode(signature))
    }

    /// What a token says, if it is one of ours and its time is not over.
    fn claim(&self, token: &str, now_ms: u64) -> Option<Claim> {
        let (body, signature) = token.split_once('.').filter(|_| token.len() <= TOKEN_CHARS_MAX)?;
        let signature = BASE64.decode(signature).ok()?;
        hmac::verify(&self.key, body.as_bytes(), &signature).ok()?;
        let claim: Claim = serde_json::from_slice(&BASE64.decode(body).ok()?).ok()?;
        (now_ms < claim.until_ms).then_some(claim)
    }
}

fn secret(path: &Path) -> Result<Vec<u8>, SecretError> {
    use std::io::Read as _;
    let mut secret = Vec::new();
    std::fs::File::open(path)?
        .take(SECRET_BYTES_MAX)
        .read_to_end(&mut secret)?;
    let end = secret.trim_ascii_end().len();
    secret.truncate(end);
    if secret.len() < SECRET_BYTES_MIN {
        return Err(SecretError::Short(secret.len()));
    }
    Ok(secret)
}

/// What a link brings along.
#[derive(Debug, Deserialize)]
pub(super) struct Followed {
    token: String,
    answer: Option<Said>,
}

/// Which button was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Approve,
    Deny,
}

/// The page behind a link. It changes nothing.
pub(super) async fn page(
    State(api): State<Api>,
    followed: Result<Query<Followed>, QueryRejection>,
) -> Response {
    let Some((token, claim)) = api.followed(followed.as_ref().ok()) else {
        return no_link();
    };
    let to = |answer: &str| format!("/v1/approve?token={token}&answer={answer}");
    let buttons = html! {
        p { "The gate " b { (claim.gate) } " of the pair " b { (claim.pair) } " waits for an answer." }
        form method="post" action=(to("approve")) { button { "Approve" } }
        form method="post" action=(to("deny")) { button { "Deny" } }
    };
    shown(StatusCode::OK, &buttons)
}

/// A button was pressed.
pub(super) async fn follow(
    State(api): State<Api>,
    followed: Result<Query<Followed>, QueryRejection>,
) -> Response {
    let said = followed.as_ref().ok().and_then(|followed| followed.answer);
    let (Some((_, claim)), Some(said)) = (api.followed(followed.as_ref().ok()), said) else {
        return no_link();
    };
    let lines = (
        Actor::try_from(ACTOR.to_owned()),
        Reason::try_from("by a signed link".to_owned()),
    );
    let (Ok(actor), Ok(reason)) = lines else {
        return no_link();
    };
    let gate = claim.gate.clone();
    let order = Order {
        pair: claim.pair,
        command: match said {
            Said::Approve => Command::Approve { gate },
            Said::Deny => Command::Deny { gate },
        },
        actor,
        reason,
        // One per press: who says no, yes and no again means the last of it, and what is so already is answered by state.
        key: format!("link-{:032x}", rand::random::<u128>()),
        expected: Some(claim.generation),
        to: None,
        dry_run: false,
    };
    match api.operator.command(order).await {
        Ok(outcome) => shown(StatusCode::OK, &html! { p { (outcome.sentence) } }),
        Err(fault) => {
            let status = super::problem::Problem::from(fault.clone()).status;
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            shown(status, &html! { p { "Nothing was changed: " (fault) "." } })
        }
    }
}

impl Api {
    fn followed<'a>(&self, followed: Option<&'a Query<Followed>>) -> Option<(&'a str, Claim)> {
        let token = followed?.token.as_str();
        let claim = self.links.as_ref()?.claim(token, (self.clock)())?;
        Some((token, claim))
    }
}

fn no_link() -> Response {
    let said = html! { p { "This link opens nothing: it is not one of ours, or its time is over." } };
    shown(StatusCode::FORBIDDEN, &said)
}

fn shown(status: StatusCode, said: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "foreshade" } }
            body { h1 { "foreshade" } (said) }
        }
    };
    let headers = [
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
        // The link must not be told to whatever is followed from here.
        (REFERRER_POLICY, "no-referrer"),
    ];
    (status, headers, Html(page.into_string())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreshade_settings::Scalar as _;

    fn signer(secret: &[u8]) -> Signer {
        Signer::new(
            secret,
            Url::parse("https://foreshade.example/").unwrap(),
            Duration::from_secs(60),
        )
    }

    fn token(signer: &Signer, now_ms: u64) -> String {
        let pair = PairId {
            cluster: "shop".parse().unwrap(),
            primary: "a".parse().unwrap(),
        };
        let link = signer.link(&pair, &"release".parse().unwrap(), Generation(7), now_ms);
        let token = link.strip_prefix("https://foreshade.example/v1/approve?token=");
        token.unwrap_or_else(|| panic!("{link}")).to_owned()
    }

    #[test]
    fn a_link_is_good_until_its_end_and_with_its_own_secret_only() {
        let ours = signer(&[7; 32]);
        let token = token(&ours, 1_000);
        let claim = ours.claim(&token, 60_999).unwrap();
        assert_eq!(
            (claim.gate.as_str(), claim.generation),
            ("release", Generation(7))
        );
        assert_eq!(ours.claim(&token, 61_000), None);
        assert_eq!(signer(&[8; 32]).claim(&token, 2_000), None);
    }

    #[test]
    fn no_character_of_a_link_can_be_changed() {
        let ours = signer(&[7; 32]);
        let token = token(&ours, 1_000);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(ours.claim(&changed, 2_000), None, "{at}");
        }
        for text in ["", ".", "a.b", &"x".repeat(5000)] {
            assert_eq!(ours.claim(text, 2_000), None);
        }
    }
}
