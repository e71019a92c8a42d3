//! The keys of TLS, a listener's and a cluster's, and the files that they name.
//!
//! Unlike secrets that are needed now and then, certificates and keys are read with the configuration: a key that does not
//! fit, found at three in the morning by a client, would be found too late. So a file that is missing, expired or of
//! another certificate is a mistake at the place where it is named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use foreshade_settings::{AbsolutePath, At, List, Mistake, Mistakes, Place, choice, section};

use super::acme::{Ordered, Orders};
use super::text::Host;
use crate::tls::origination::{self, Origination, Protocols, Verify};
use crate::tls::profile::Profile;
use crate::tls::{CertificateFiles, ClientCertificates, Fault, SYSTEM_AUTHORITIES, Settings, Termination};

/// How settings become what a listener speaks TLS with: by reading files, or by knowing what was in them.
pub(super) type Terminate<'a> = dyn Fn(&Settings) -> Result<Arc<Termination>, Vec<Fault>> + 'a;

/// The same for what a cluster's endpoints are spoken to with.
pub(super) type Originate<'a> = dyn Fn(&origination::Settings) -> Result<Arc<Origination>, Vec<Fault>> + 'a;

section! {
    /// TLS, where a listener speaks it.
    ListenerTls "a listener's tls section":
    /// What clients are shown, by the names that each bears. The first is shown to those who ask for no name or another one.
    certificates "certificates": required List<At<Certificate>, 1>;
    /// Versions, suites and groups that are spoken: intermediate for TLS 1.2 and 1.3, modern for 1.3 only, nist for both
    /// with what NIST has approved.
    profile "profile": default Profile = Profile::Intermediate;
    /// Clients that ask for a name that no certificate bears, or for none: show them the first one, or refuse them.
    unknown_names "unknownNames": default UnknownNames = UnknownNames::First;
    /// Certificates of clients. Nobody is asked for one where left out.
    clients "clientCertificates": optional Clients;
}

section! {
    /// A certificate: the files that it is made of, or the names that an authority is asked to issue it for.
    Certificate "a certificate":
    /// File with the certificate and those above it, in PEM, its own first; with keyFile.
    cert_file "certFile": optional At<AbsolutePath>;
    /// File with its key, in PEM, without a passphrase; with certFile.
    key_file "keyFile": optional At<AbsolutePath>;
    /// File with an OCSP response for it, in DER, which is stapled to it; with certFile.
    ocsp_file "ocspFile": optional At<AbsolutePath>;
    /// The authority of the acme section is asked for it; instead of files.
    acme "acme": optional At<Ordered>;
}

section! {
    /// Certificates of clients.
    Clients "a clientCertificates section":
    /// File with the authorities that vouch for clients, in PEM.
    ca_file "caFile": required At<AbsolutePath>;
    /// Whether a client without a certificate is refused. One that is shown is verified in any case.
    required "required": default bool = true;
}

section! {
    /// TLS, where it is spoken with endpoints.
    ClusterTls "a cluster's tls section":
    /// File with the authorities that vouch for its endpoints, in PEM; those that this machine trusts where left out.
    ca_file "caFile": optional At<AbsolutePath>;
    /// File with the proxy's own certificate and those above it, in PEM, which endpoints are shown that ask for one; with
    /// keyFile.
    cert_file "certFile": optional At<AbsolutePath>;
    /// File with its key, in PEM, without a passphrase; with certFile.
    key_file "keyFile": optional At<AbsolutePath>;
    /// Name that an endpoint's certificate has to bear, and that it is asked for (SNI); the host of its address where left
    /// out. An endpoint may have its own.
    server_name "serverName": optional Host;
    /// What an endpoint's certificate has to prove: its name, or only that an authority vouches for it. Nothing less.
    verify "verify": default Verify = Verify::Name;
    /// Versions, suites and groups that are spoken: intermediate for TLS 1.2 and 1.3, modern for 1.3 only, nist for both
    /// with what NIST has approved.
    profile "profile": default Profile = Profile::Intermediate;
}

choice!(Verify: "name" Name, "authority" Authority);

choice!(Profile: "intermediate" Intermediate, "modern" Modern, "nist" Nist);

/// What becomes of clients that ask for a name that no certificate bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnknownNames {
    First,
    Refuse,
}

choice!(UnknownNames: "first" First, "refuse" Refuse);

/// What a listener speaks TLS with.
pub(super) fn termination(
    keys: ListenerTls,
    http2: bool,
    (terminate, orders): (&Terminate<'_>, &mut Orders),
    mistakes: &mut Mistakes,
) -> Option<Arc<Termination>> {
    let mut places = Vec::new();
    let certificates = keys.certificates.filter(|list| list.sound)?;
    // All of them first, so that all mistakes are reported.
    let certificates: Vec<_> = certificates
        .items
        .into_iter()
        .map(|keys| certificate(keys, orders, &mut places, mistakes))
        .collect();
    let certificates = certificates.into_iter().collect::<Option<Vec<_>>>()?;
    let clients = match keys.clients {
        Some(clients) => Some(ClientCertificates {
            ca_file: noted(clients.ca_file, "caFile", &mut places)?,
            required: clients.required,
        }),
        None => None,
    };
    let settings = Settings {
        certificates,
        profile: keys.profile,
        refuse_unknown_names: keys.unknown_names == UnknownNames::Refuse,
        clients,
        http2,
    };
    let made = terminate(&settings);
    made.map_err(|faults| blame(faults, &places, mistakes)).ok()
}

/// A certificate, out of files or ordered.
fn certificate(
    keys: At<Certificate>,
    orders: &mut Orders,
    places: &mut Vec<Named>,
    mistakes: &mut Mistakes,
) -> Option<CertificateFiles> {
    let (place, keys) = (keys.place(), keys.value);
    match (keys.acme, keys.cert_file, keys.key_file) {
        (None, Some(certificate), Some(key)) => Some(CertificateFiles {
            certificate: noted(Some(certificate), "certFile", places)?,
            key: noted(Some(key), "keyFile", places)?,
            staple: keys
                .ocsp_file
                .and_then(|file| noted(Some(file), "ocspFile", places)),
            wanted: None,
        }),
        (Some(acme), None, None) if keys.ocsp_file.is_none() => {
            let at = acme.place();
            let wanted = orders.add(acme, mistakes)?;
            places.push((wanted.file.clone(), "acme", at));
            Some(CertificateFiles {
                certificate: wanted.file.clone(),
                key: wanted.file.clone(),
                staple: None,
                wanted: Some(wanted),
            })
        }
        (acme, ..) => {
            let what = match acme {
                Some(_) => "a certificate that an authority is asked for has no files of its own",
                None => "a certificate lacks certFile or keyFile",
            };
            mistakes.add(Mistake::at(place, what).expected("certFile and keyFile, or acme"));
            None
        }
    }
}

/// What a cluster's endpoints are spoken to with. `cluster` is where its name is, to blame for what has no place.
pub(super) fn origination(
    (keys, protocols): (ClusterTls, Protocols),
    cluster: Option<Place>,
    originate: &Originate<'_>,
    mistakes: &mut Mistakes,
) -> Option<Arc<Origination>> {
    let mut places = vec![(PathBuf::from(SYSTEM_AUTHORITIES), "tls", cluster)];
    let own = match (keys.cert_file, keys.key_file) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(CertificateFiles {
            certificate: noted(Some(certificate), "certFile", &mut places)?,
            key: noted(Some(key), "keyFile", &mut places)?,
            staple: None,
            wanted: None,
        }),
        (Some(alone), None) | (None, Some(alone)) => {
            let what = "a certificate and its key come together";
            mistakes.add(Mistake::at(alone.place(), what).expected("certFile and keyFile, or neither"));
            return None;
        }
    };
    if keys.verify == Verify::Authority && keys.ca_file.is_none() {
        let what =
            "verify: authority without caFile believes whoever has a certificate of any public authority";
        mistakes.add(Mistake::at(cluster, what).expected("caFile beside it, or verify: name"));
        return None;
    }
    let settings = origination::Settings {
        authorities: match keys.ca_file {
            Some(file) => Some(noted(Some(file), "caFile", &mut places)?),
            None => None,
        },
        own,
        profile: keys.profile,
        verify: keys.verify,
        protocols,
    };
    let made = originate(&settings);
    made.map_err(|faults| blame(faults, &places, mistakes)).ok()
}

/// What an issuer of keys is spoken to with: who has to prove that he is who is asked for, by these authorities or by those
/// that this machine trusts. `place` is where he is named.
pub(super) fn issuer(
    authorities: Option<At<AbsolutePath>>,
    place: Option<Place>,
    originate: &Originate<'_>,
    mistakes: &mut Mistakes,
) -> Option<Arc<Origination>> {
    let mut places = vec![(PathBuf::from(SYSTEM_AUTHORITIES), "keysUrl", place)];
    let authorities = match authorities {
        Some(file) => Some(noted(Some(file), "keysCaFile", &mut places)?),
        None => None,
    };
    let made = originate(&origination::Settings::of_server(authorities));
    made.map_err(|faults| blame(faults, &places, mistakes)).ok()
}

fn blame(faults: Vec<Fault>, places: &[Named], mistakes: &mut Mistakes) {
    for fault in faults {
        mistakes.add(mistake(fault, places));
    }
}

/// Where the file is named, and by which key.
type Named = (PathBuf, &'static str, Option<Place>);

fn noted(file: Option<At<AbsolutePath>>, key: &'static str, places: &mut Vec<Named>) -> Option<PathBuf> {
    let file = file?;
    let path = file.value.0.clone();
    places.push((path.clone(), key, file.place()));
    Some(path)
}

fn mistake(fault: Fault, places: &[Named]) -> Mistake {
    let is_meant = |named: &&Named| Path::new(&named.0) == fault.file;
    let (key, place) = places
        .iter()
        .find(is_meant)
        .map_or(("tls", None), |(_, key, place)| (*key, *place));
    Mistake::at(place, format!("{key}: {} {}", fault.file.display(), fault.what)).hint(fault.hint)
}
