//! What the authority finds when it looks whether a name leads here: tokens for HTTP-01 (RFC 8555 section 8.3), and
//! certificates that are shown to nobody else for TLS-ALPN-01 (RFC 8737).
//!
//! Written by the one task that orders, read by all workers, but only for a path below
//! `/.well-known/acme-challenge/` on a listener that answers for it, and for a handshake that offers `acme-tls/1`; no other
//! request comes here. What is not known here is nobody's secret: such a request goes on to the routes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::NAMES_MAX;
use crate::route::answer::Answer;
use crate::tls::profile::Profile;

/// Where HTTP-01 looks.
pub(crate) const PATH: &str = "/.well-known/acme-challenge/";

/// How TLS-ALPN-01 is called where protocols are agreed on.
const PROTOCOL: &[u8] = b"acme-tls/1";

/// What is answered now. Nothing as long as no order is under way.
#[derive(Debug, Default)]
pub struct Challenges(ArcSwap<Answers>);

#[derive(Clone, Debug, Default)]
struct Answers {
    /// By token.
    paths: Vec<(String, Bytes)>,
    /// By name.
    servers: Vec<(String, Arc<ServerConfig>)>,
}

/// The answers of one order. They end with it.
#[derive(Debug)]
pub(super) struct Raised<'a> {
    challenges: &'a Challenges,
    answers: Answers,
}

/// Why an answer cannot be given.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswerable {
    /// More than a certificate has names.
    #[error("the authority has more questions than the certificate has names")]
    TooMany,
    /// The token is none.
    #[error("the authority's token is none")]
    Token,
    /// The certificate cannot be made.
    #[error("no certificate for the challenge can be made")]
    Certificate(#[from] rcgen::Error),
    /// It cannot be used.
    #[error("the certificate for the challenge cannot be used")]
    Tls(#[from] rustls::Error),
}

impl Challenges {
    /// The answer to a request for this path; `None` where it is not for here.
    pub(crate) fn answer(&self, path: &str) -> Option<Answer> {
        let asked = path.strip_prefix(PATH)?;
        let answers = self.0.load();
        let (_, said) = answers.paths.iter().find(|(token, _)| token == asked)?;
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        Some(Answer {
            status: 200,
            headers: HeaderMap::from_iter(headers),
            body: said.clone(),
            reason: "acme_challenge",
            refused: false,
            page: None,
        })
    }

    /// What an authority is shown that asks so; `None` for everybody else.
    pub(crate) fn server(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut offered = hello.alpn()?;
        // It offers this and nothing else (RFC 8737 section 3).
        if offered.next() != Some(PROTOCOL) || offered.next().is_some() {
            return None;
        }
        let asked = hello.server_name()?;
        let answers = self.0.load();
        let found = answers
            .servers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(asked));
        found.map(|(_, config)| config.clone())
    }

    /// Room for the answers of one order; there is one at a time.
    pub(super) fn raise(&self) -> Raised<'_> {
        Raised {
            challenges: self,
            answers: Answers::default(),
        }
    }
}

impl Raised<'_> {
    /// From here on requests for the token are answered so.
    pub(super) fn add_path(&mut self, token: &str, said: &str) -> Result<(), Unanswerable> {
        self.check_room()?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if token.is_empty() || !token.bytes().all(is_token) {
            return Err(Unanswerable::Token);
        }
        self.answers
            .paths
            .push((token.to_owned(), Bytes::copy_from_slice(said.as_bytes())));
        self.publish();
        Ok(())
    }

    /// From here on who asks for the name by TLS-ALPN-01 is shown a certificate with this digest.
    pub(super) fn add_server(&mut self, name: &str, digest: &[u8]) -> Result<(), Unanswerable> {
        self.check_room()?;
        let config = server(name, digest)?;
        self.answers.servers.push((name.to_owned(), Arc::new(config)));
        self.publish();
        Ok(())
    }

    fn check_room(&self) -> Result<(), Unanswerable> {
        match self.answers.paths.len() + self.answers.servers.len() < NAMES_MAX {
            true => Ok(()),
            false => Err(Unanswerable::TooMany),
        }
    }

    fn publish(&self) {
        self.challenges.0.store(Arc::new(self.answers.clone()));
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.challenges.0.store(Arc::default());
    }
}

/// Source: RFC 8737 section 3.
fn server(name: &str, digest: &[u8]) -> Result<ServerConfig, Unanswerable> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    let profile = Profile::Intermediate;
    // Not held against each other: nobody but the authority knows the critical extension.
    let shown = CertifiedKey::new(
        vec![certificate.der().clone()],
        profile.provider().key_provider.load_private_key(key)?,
    );
    let mut config = ServerConfig::builder_with_provider(profile.provider().clone())
        .with_protocol_versions(profile.versions())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_answered_as_long_as_its_order_is_under_way_and_nothing_else_is() {
        let challenges = Challenges::default();
        let answer = |path: &str| challenges.answer(path).map(|answer| answer.body);
        let mut raised = challenges.raise();
        raised.add_path("tok-en_1", "tok-en_1.thumb").unwrap();
        assert_eq!(
            answer("/.well-known/acme-challenge/tok-en_1").as_deref(),
            Some(&b"tok-en_1.thumb"[..])
        );
        for path in [
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/tok-en_",
            "/.well-known/acme-challenge/tok-en_1/",
            "/tok-en_1",
        ] {
            assert_eq!(answer(path), None, "{path}");
        }
        drop(raised);
        assert_eq!(answer("/.well-known/acme-challenge/tok-en_1"), None);
    }

    #[test]
    fn an_authority_cannot_have_any_path_answered_nor_any_number_of_them() {
        let challenges = Challenges::default();
        let mut raised = challenges.raise();
        for token in ["", "../x", "a/b", "a b", "ä"] {
            assert!(
                matches!(raised.add_path(token, ""), Err(Unanswerable::Token)),
                "{token}"
            );
        }
        raised.add_server("shop.example", &[7; 32]).unwrap();
        for n in 1..NAMES_MAX {
            raised.add_path(&format!("t{n}"), "").unwrap();
        }
        assert!(matches!(
            raised.add_path("one-more", ""),
            Err(Unanswerable::TooMany)
        ));
    }
}
