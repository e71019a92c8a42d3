//! Which certificate a client is shown: by the name that he asks for (SNI, RFC 6066 section 3).
//!
//! The names are those that the certificates bear, exact or with one `*` in place of the first label; there is no second
//! list that could say something else. An exact name comes before a wildcard. Two certificates may bear one name if
//! their keys are of different kinds, so that old clients get what they understand.
//!
//! One that stands in for another comes last, wherever it is listed. And whether a file has a fault never depends on what
//! an authority has issued: otherwise a configuration that was accepted would be refused once the certificate has come.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::files::{Readied, Reading, Source};

/// Certificates by name.
#[derive(Debug)]
pub(super) struct Names {
    exact: HashMap<String, Kinds>,
    /// By what stands behind the `*.`.
    wildcard: HashMap<String, Kinds>,
    /// For everybody else; nobody is shown it where they are refused.
    first: Arc<CertifiedKey>,
    refuse_unknown: bool,
}

/// Certificates of one name. Of those with keys of one kind the first is shown.
type Kinds = Vec<(Arc<CertifiedKey>, Source)>;

impl Names {
    /// `None` where there is no certificate. One that nobody would ever be shown is a fault, if it is a file.
    pub(super) fn of(certificates: &[Readied], refuse_unknown: bool, reading: &mut Reading) -> Option<Self> {
        let mut names = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            first: certificates.first()?.key.clone(),
            refuse_unknown,
        };
        let mut listed: Vec<_> = certificates.iter().enumerate().collect();
        listed.sort_by_key(|(_, read)| read.source == Source::StandIn);
        for (place, read) in listed {
            let is_seen = names.add(read) | (place == 0 && !refuse_unknown);
            if is_seen {
                continue;
            }
            let file = &read.shown.file;
            let what = match read.shown.names.is_empty() {
                true => "bears no host name, so that nobody would ever be shown it",
                false => "bears no name that a certificate before it does not bear, too",
            };
            match read.source {
                Source::Files => reading.fault(file, what),
                Source::Issued | Source::StandIn => reading.warn(format!("{} {what}", file.display())),
            }
        }
        Some(names)
    }

    /// Whether it bears a name for which there was none of its kind; of files, no file.
    fn add(&mut self, read: &Readied) -> bool {
        let mut is_new = false;
        for name in &read.shown.names {
            let kinds = match name.strip_prefix("*.") {
                Some(domain) => self.wildcard.entry(domain.to_owned()).or_default(),
                None => self.exact.entry(name.clone()).or_default(),
            };
            let is_covered = kinds.iter().any(|(key, source)| {
                key.key.algorithm() == read.key.key.algorithm()
                    && (read.source != Source::Files || *source == Source::Files)
            });
            if !is_covered {
                kinds.push((read.key.clone(), read.source));
                is_new = true;
            }
        }
        is_new
    }

    /// Whether a client that asks for this name, or for none, is to be served.
    pub(super) fn knows(&self, name: Option<&str>) -> bool {
        !self.refuse_unknown || name.is_some_and(|name| self.of_name(name).is_some())
    }

    pub(super) fn of_name(&self, name: &str) -> Option<&Kinds> {
        self.exact.get(name).or_else(|| {
            let (_, domain) = name.split_once('.')?;
            self.wildcard.get(domain)
        })
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(kinds) = hello.server_name().and_then(|name| self.of_name(name)) else {
            return (!self.refuse_unknown).then(|| self.first.clone());
        };
        let suits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let mut keys = kinds.iter().map(|(key, _)| key);
        keys.clone().find(suits).or(keys.next()).cloned()
    }
}
