//! A certificate for the listeners of a comparison, made anew for each run: nobody has to trust it, and no key lies in
//! the repository. Its key is of the kind that most sites use today (ECDSA, P-256), the same for everybody.

use std::path::Path;

use anyhow::{Context, Result};

use crate::closed_loop::AUTHORITY;
use crate::rivals::Tls;

/// Makes one, in files in `folder`.
pub fn make(folder: &Path) -> Result<Tls> {
    let made =
        rcgen::generate_simple_self_signed([AUTHORITY.to_owned()]).context("cannot make a certificate")?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let tls = Tls {
        certificate: folder.join("certificate.pem"),
        key: folder.join("key.pem"),
        both: folder.join("both.pem"),
    };
    let both = format!("{certificate}{key}");
    for (file, text) in [
        (&tls.certificate, &certificate),
        (&tls.key, &key),
        (&tls.both, &both),
    ] {
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(tls)
}
