//! What may be agreed on, by one name: versions, suites and groups together.
//!
//! A name and not three lists: a list of suites is copied once and outlives what was known when it was written. The names
//! `modern` and `intermediate` are Mozilla's (<https://wiki.mozilla.org/Security/Server_Side_TLS>), and mean here what
//! they mean there less what rustls leaves out for good: suites with DHE. There is no `old`, because nothing here speaks
//! TLS 1.0. `nist` is for those who have to keep to SP 800-52 revision 2 and SP 800-56A: no ChaCha20, no X25519. It chooses
//! algorithms; it does not make a validated module of the one that computes them.
//!
//! Listeners and clusters choose from the same table.

use std::sync::{Arc, LazyLock};

use rustls::SupportedProtocolVersion;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, SECP256R1MLKEM768, SECP384R1, X25519, X25519MLKEM768};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::version::{TLS12, TLS13};

/// A set of versions, suites and groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// TLS 1.3 only.
    Modern,
    /// TLS 1.3 and 1.2, with AEAD suites and forward secrecy.
    #[default]
    Intermediate,
    /// TLS 1.3 and 1.2, with algorithms that NIST has approved.
    Nist,
}

static MODERN: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| of_suites(|suite| suite.tls13().is_some(), &GROUPS));
static INTERMEDIATE: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| of_suites(|_| true, &GROUPS));
static NIST: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let is_chacha = |suite: &rustls::SupportedCipherSuite| {
        [
            TLS13_CHACHA20_POLY1305_SHA256,
            TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ]
        .contains(suite)
    };
    of_suites(|suite| !is_chacha(suite), &NIST_GROUPS)
});

static NEWEST: [&SupportedProtocolVersion; 1] = [&TLS13];
static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// All suites there are: none of them is weak. In the order of preference, which a client's own comes before.
static SUITES: [rustls::SupportedCipherSuite; 9] = [
    TLS13_AES_256_GCM_SHA384,
    TLS13_AES_128_GCM_SHA256,
    TLS13_CHACHA20_POLY1305_SHA256,
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// The last one is for clients that prefer it: it costs three times as much as X25519.
static GROUPS: [&dyn SupportedKxGroup; 4] = [X25519, SECP256R1, SECP384R1, X25519MLKEM768];

static NIST_GROUPS: [&dyn SupportedKxGroup; 3] = [SECP256R1, SECP384R1, SECP256R1MLKEM768];

impl Profile {
    /// The versions, the newest one first.
    pub(crate) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Modern => &NEWEST,
            Self::Intermediate | Self::Nist => &BOTH,
        }
    }

    /// The cryptography, whatever the process's default is.
    pub(crate) fn provider(self) -> &'static Arc<CryptoProvider> {
        match self {
            Self::Modern => &MODERN,
            Self::Intermediate => &INTERMEDIATE,
            Self::Nist => &NIST,
        }
    }
}

fn of_suites(
    is_wanted: impl Fn(&rustls::SupportedCipherSuite) -> bool,
    groups: &[&'static dyn SupportedKxGroup],
) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: SUITES.iter().filter(|suite| is_wanted(suite)).copied().collect(),
        kx_groups: groups.to_vec(),
        ..aws_lc_rs::default_provider()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a list in the documents: without the prefix that rustls gives to suites of TLS 1.3.
    fn listed(names: impl Iterator<Item = String>) -> String {
        let names: Vec<_> = names
            .map(|name| format!("`{}`", name.replace("TLS13_", "TLS_")))
            .collect();
        names.join(", ")
    }

    #[test]
    fn the_documents_list_exactly_what_is_spoken() {
        let document = include_str!("../../../docs/tls.md");
        for (name, profile) in [
            ("modern", Profile::Modern),
            ("intermediate", Profile::Intermediate),
            ("nist", Profile::Nist),
        ] {
            let provider = profile.provider();
            let of_version = |newest: bool| {
                let suites = provider.cipher_suites.iter();
                let suites = suites.filter(move |suite| suite.tls13().is_some() == newest);
                listed(suites.map(|suite| format!("{:?}", suite.suite())))
            };
            let groups = listed(
                provider
                    .kx_groups
                    .iter()
                    .map(|group| format!("{:?}", group.name())),
            );
            let oldest = match profile.versions().len() {
                1 => "–".to_owned(),
                _ => of_version(false),
            };
            let row = format!("| `{name}` | {} | {oldest} | {groups} |", of_version(true));
            assert!(document.contains(&row), "docs/tls.md has no row\n{row}");
        }
    }

    #[test]
    fn nothing_is_left_out_of_the_default_that_rustls_would_speak() {
        let (own, usual) = (Profile::default().provider(), aws_lc_rs::default_provider());
        assert_eq!(own.cipher_suites, usual.cipher_suites);
        for group in usual.kx_groups {
            let is_there = own.kx_groups.iter().any(|own| own.name() == group.name());
            assert!(is_there, "{:?}", group.name());
        }
    }
}
