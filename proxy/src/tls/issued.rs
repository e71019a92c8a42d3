//! Certificates that an authority issues when it is asked: read without a mistake where there is none yet.
//!
//! A listener that waits for its first certificate shows one of its own making, for a day and believed by nobody, so that
//! it can be loaded, and asked by the authority whether the name leads here. One that was issued is shown on when its time
//! is over, like any other that expires while it serves: it is no worse than none, and tells its own story.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::files::{Readied, Reading, Source, contents, names, parse};
use super::{Certificate, PROVIDER};
use crate::acme::Wanted;
use crate::acme::schedule::Kept;

/// How long a certificate of one's own making says that it is valid.
const OWN_LIFE: Duration = Duration::from_secs(24 * 3600);

/// A certificate, those above it, and its key.
struct Pair {
    key: CertifiedKey,
    kept: Kept,
}

/// What is kept in this file; `None` where there is nothing that could be used.
pub(crate) fn kept(file: &Path) -> Option<Kept> {
    let (bytes, _) = contents(file).ok()?;
    pair(&bytes).ok().map(|pair| pair.kept)
}

/// Makes sure that these bytes are a certificate for these names with its key, in PEM.
pub(crate) fn check_issued(pem: &[u8], names: &[String]) -> Result<(), String> {
    let pair = pair(pem)?;
    match names.iter().find(|name| !pair.kept.names.contains(name)) {
        Some(missing) => Err(format!("it does not bear the name {missing}")),
        None => Ok(()),
    }
}

impl Reading {
    /// The certificate that was issued, or one of one's own making.
    pub(super) fn issued(&mut self, wanted: &Wanted) -> Option<Readied> {
        let file = wanted.file.as_path();
        let why = match contents(file) {
            Ok((bytes, mode)) => match pair(&bytes) {
                Ok(pair) => {
                    self.note(&bytes);
                    self.look_at_mode(file, mode);
                    let is_over = pair.kept.ends_s < self.now_s();
                    if is_over {
                        self.warn(format!("{} has expired, and is shown on", file.display()));
                    }
                    let source = match is_over || !pair.kept.bears_only(&wanted.names) {
                        true => Source::StandIn,
                        false => Source::Issued,
                    };
                    return Some(readied(file, pair, source));
                }
                Err(what) => format!("{} cannot be used: {what}", file.display()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                format!(
                    "no certificate of {} has been issued yet",
                    wanted.names.join(", ")
                )
            }
            Err(error) => {
                self.fault(file, format!("cannot be read: {error}"));
                return None;
            }
        };
        self.warn(format!("{why}; one that signs itself is shown until then"));
        // The same as long as there is none.
        self.note(wanted.names.join(",").as_bytes());
        match own(wanted, self.now_s()) {
            Ok(pair) => Some(readied(file, pair, Source::StandIn)),
            Err(what) => {
                self.fault(file, format!("cannot be stood in for: {what}"));
                None
            }
        }
    }
}

fn readied(file: &Path, pair: Pair, source: Source) -> Readied {
    Readied {
        shown: Certificate {
            file: file.to_owned(),
            names: pair.kept.names,
            expires_s: pair.kept.ends_s,
        },
        key: Arc::new(pair.key),
        source,
    }
}

fn pair(pem: &[u8]) -> Result<Pair, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| format!("it is not PEM: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("it holds no key: {error}"))?;
    paired(chain, key)
}

fn paired(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Pair, String> {
    let first = chain.first().ok_or("it holds no certificate")?;
    let parsed = parse(first).ok_or("it holds no certificate of X.509")?;
    let validity = parsed.validity();
    let kept = Kept {
        begins_s: validity.not_before.timestamp(),
        ends_s: validity.not_after.timestamp(),
        names: names(&parsed),
    };
    let key = CertifiedKey::from_der(chain, key, &PROVIDER).map_err(|error| error.to_string())?;
    Ok(Pair { key, kept })
}

/// A certificate that signs itself.
fn own(wanted: &Wanted, now_s: i64) -> Result<Pair, String> {
    let make = || {
        let mut params = CertificateParams::new(wanted.names.clone())?;
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "foreshade, waiting for a certificate");
        let now = Duration::from_secs(u64::try_from(now_s).unwrap_or(0));
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now;
        params.not_after = params.not_before + OWN_LIFE;
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok::<_, rcgen::Error>((certificate.der().clone(), key.serialize_der()))
    };
    let (certificate, key) = make().map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::try_from(key)?;
    paired(vec![certificate], key)
}
