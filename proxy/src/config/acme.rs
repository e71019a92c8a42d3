//! The keys of certificates that an authority issues when it is asked (ACME): the authority once for the whole file, the
//! names at each certificate.
//!
//! There is one authority, because an account, a folder and a way to trust belong to it, and a name that two of them
//! vouch for is a question of whom to blame. What could not be proven is a mistake here: it would be found by a user,
//! when the first certificate does not come.

use std::net::IpAddr;
use std::sync::Arc;

use foreshade_settings::{AbsolutePath, At, List, Mistake, Mistakes, Place, Wrong, choice, section, text};
use http::Uri;

use super::text::route::{HostPattern, Written};
use super::{Listener, Protocol};
use crate::acme::{self, Authority, External, FIRST_NAME_BYTES_MAX, NAMES_MAX, Proof, Wanted};

section! {
    /// An authority that issues certificates when it is asked (ACME).
    Acme "an acme section":
    /// URL of its directory.
    directory "directory": required Directory;
    /// Whom it may write to, as mailto:ops@shop.example.
    contacts "contacts": list List<Contact, 0>;
    /// That you agree to its terms of service, which you have read: true.
    agreed "termsOfServiceAgreed": required At<bool>;
    /// Folder for the account, the certificates and their keys; made where it is not there.
    storage "storage": required AbsolutePath;
    /// File with the authorities that vouch for its own certificate, in PEM; those that this machine trusts where left out.
    ca_file "caFile": optional AbsolutePath;
    /// The account that you have there already, where it asks for one.
    external "externalAccount": optional ExternalAccount;
}

section! {
    /// An account that is there already (external account binding).
    ExternalAccount "an externalAccount section":
    /// Its key's name.
    key_id "keyId": required Written;
    /// File with its key, in base64url. Others may not read it.
    key_file "keyFile": required AbsolutePath;
}

section! {
    /// A certificate that the authority is asked for.
    Ordered "an acme certificate":
    /// The names that it is to bear.
    names "names": required List<At<HostPattern>, 1>;
    /// How it is proven that they lead here: tls-alpn-01 by a handshake on port 443, http-01 by a request in the clear on
    /// port 80, which any listener of http without tls answers.
    proof "challenge": default At<Proof> = Proof::TlsAlpn;
}

choice!(Proof: "tls-alpn-01" TlsAlpn, "http-01" Http);

text! {
    /// The URL of a directory.
    Directory(String), "a URL that begins with https://", |text| {
        let uri: Uri = text.parse().map_err(|_| Wrong::default())?;
        let is_sound = uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty());
        if is_sound { Ok(text.to_owned()) } else { Err(Wrong::default()) }
    }, "^https://[!-~]+$"
}

text! {
    /// A way to write to somebody.
    Contact(String), "a URL, as mailto:ops@shop.example", |text| {
        let is_visible = text.bytes().all(|b| b.is_ascii_graphic());
        match text.split_once(':') {
            Some((scheme, rest)) if is_visible && !scheme.is_empty() && !rest.is_empty() => Ok(text.to_owned()),
            _ if text.contains('@') => Err(Wrong::default().hint(format!("write mailto:{text}"))),
            _ => Err(Wrong::default()),
        }
    }, "^[a-z]+:[!-~]+$"
}

/// What is ordered, in the whole file.
#[derive(Debug)]
pub(super) struct Orders {
    /// `None` where none is written, `Some(None)` where it is wrong, and reported.
    authority: Option<Option<Arc<Authority>>>,
    place: Option<Place>,
    known: Vec<Arc<Wanted>>,
    /// Where a request in the clear has to be answered.
    http: Option<Option<Place>>,
}

impl Orders {
    /// None yet.
    pub(super) fn of(written: Option<At<Acme>>, mistakes: &mut Mistakes) -> Self {
        Self {
            place: written.as_ref().and_then(At::place),
            authority: written.map(|keys| authority(keys.value, mistakes)),
            known: Vec::new(),
            http: None,
        }
    }

    /// One more. `None` where something is wrong with it, and reported.
    pub(super) fn add(&mut self, keys: At<Ordered>, mistakes: &mut Mistakes) -> Option<Arc<Wanted>> {
        let (place, keys) = (keys.place(), keys.value);
        let names = names(keys.names?, mistakes)?;
        let Some(authority) = &self.authority else {
            let what = "acme: there is nobody to issue it";
            mistakes.add(Mistake::at(place, what).expected("an acme section at the top of the file"));
            return None;
        };
        let (authority, first) = (authority.as_ref()?, names.first()?);
        if keys.proof.value == Proof::Http {
            self.http.get_or_insert(keys.proof.place().or(place));
        }
        let wanted = Arc::new(Wanted {
            file: authority.folder.join(format!("{first}.pem")),
            proof: keys.proof.value,
            names,
        });
        match self.known.iter().find(|known| known.file == wanted.file) {
            Some(known) if *known != wanted => {
                let what =
                    "acme: another certificate with the same first name has other names or another challenge";
                mistakes.add(Mistake::at(place, what).expected("one certificate, or another first name"));
                return None;
            }
            Some(known) => return Some(known.clone()),
            None => self.known.push(wanted.clone()),
        }
        Some(wanted)
    }

    /// The authority, once all of it is known: somebody has to ask it, and to answer it. `Some(None)` without one.
    pub(super) fn end(
        self,
        listeners: &mut [Option<Listener>],
        mistakes: &mut Mistakes,
    ) -> Option<Option<Arc<Authority>>> {
        let is_plain = |l: &Listener| matches!(l.protocol, Protocol::Http) && l.tls.is_none();
        let whole = listeners.iter().all(Option::is_some);
        let mut plain: Vec<_> = listeners.iter_mut().flatten().filter(|l| is_plain(l)).collect();
        if let (Some(place), true, true) = (self.http, plain.is_empty(), whole) {
            let what = "challenge: http-01 is asked in the clear, and nobody would answer";
            mistakes.add(Mistake::at(place, what).expected("a listener of http without tls, or tls-alpn-01"));
        }
        if let (Some(Some(_)), true, true) = (&self.authority, self.known.is_empty(), whole) {
            let what = "acme has no effect: no listener has a certificate of it";
            mistakes.add(Mistake::at(self.place, what).expected("acme at a certificate of a listener"));
        }
        for listener in &mut plain {
            listener.answers_challenges = self.http.is_some();
        }
        match self.authority {
            None => Some(None),
            Some(authority) => authority.map(Some),
        }
    }
}

fn names(list: List<At<HostPattern>, 1>, mistakes: &mut Mistakes) -> Option<Vec<String>> {
    let before = mistakes.count();
    if let Some(next) = list.items.get(NAMES_MAX) {
        let what = format!("names has {} entries", list.items.len());
        mistakes.add(Mistake::at(next.place(), what).expected(format!("at most {NAMES_MAX}")));
    }
    for name in &list.items {
        let HostPattern(text) = &name.value;
        if text.starts_with("*.") {
            let what = format!("names: {text} can only be proven by DNS, which foreshade does not write");
            mistakes.add(Mistake::at(name.place(), what).expected("a host name"));
        } else if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            let what = format!("names: {text} is an address");
            mistakes.add(Mistake::at(name.place(), what).expected("a host name"));
        }
    }
    if let Some(first) = list.items.first()
        && first.value.0.len() > FIRST_NAME_BYTES_MAX
    {
        let what = "names: the first one names a file, and is too long for one";
        let expected = format!("at most {FIRST_NAME_BYTES_MAX} characters, or a shorter name before it");
        mistakes.add(Mistake::at(first.place(), what).expected(expected));
    }
    let mut names: Vec<String> = list.items.into_iter().map(|name| name.value.0).collect();
    let first = names.first().cloned()?;
    names.sort_unstable();
    names.dedup();
    // The first one names the file, and an order knows no order.
    names.retain(|name| *name != first);
    names.insert(0, first);
    (list.whole && mistakes.count() == before).then_some(names)
}

fn authority(keys: Acme, mistakes: &mut Mistakes) -> Option<Arc<Authority>> {
    let agreed = keys.agreed?;
    if !agreed.value {
        let what = "termsOfServiceAgreed: without that no authority issues anything";
        mistakes.add(Mistake::at(agreed.place(), what).expected("true, once you have read them"));
        return None;
    }
    let directory = keys.directory?.0;
    let contacts = keys.contacts.whole.then_some(keys.contacts.items)?;
    Some(Arc::new(Authority {
        folder: acme::folder(&keys.storage?.0, &directory),
        directory,
        contacts: contacts.into_iter().map(|contact| contact.0).collect(),
        ca_file: keys.ca_file.map(|file| file.0),
        external: match keys.external {
            Some(external) => Some(External {
                key_id: external.key_id?.0,
                key_file: external.key_file?.0,
            }),
            None => None,
        },
    }))
}
