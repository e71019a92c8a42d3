//! Whose requests are let in, by address.
//!
//! The address is the client's as trusted proxies tell it (`client`), so a list means users and not the balancer in front.
//! Who is in `deny` is kept out, whatever `allow` says; where there is an `allow`, everybody else is kept out, too. A
//! client whose address is not known is in neither list, and is kept out by both. Lists are walked: a handful of networks
//! each, and [`NETWORKS_MAX`] cost a few microseconds.

use std::net::IpAddr;

use crate::cidr::{Cidr, any_contains};

/// Most networks of a list.
pub const NETWORKS_MAX: usize = 1024;

/// Who may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Only these; everybody where `None`.
    pub allow: Option<Vec<Cidr>>,
    /// Never these.
    pub deny: Vec<Cidr>,
}

impl Access {
    /// Whether requests of this client are let in.
    pub fn lets_in(&self, client: Option<IpAddr>) -> bool {
        let Some(client) = client else {
            return false;
        };
        !any_contains(&self.deny, client)
            && self
                .allow
                .as_ref()
                .is_none_or(|allow| any_contains(allow, client))
    }

    /// In a line.
    pub fn in_words(&self) -> String {
        let listed = |networks: &[Cidr]| {
            let networks: Vec<_> = networks.iter().map(Cidr::to_string).collect();
            networks.join(", ")
        };
        let allow = self.allow.as_deref().map_or("everybody".to_owned(), listed);
        match self.deny.as_slice() {
            [] => format!("lets in {allow}"),
            deny => format!("lets in {allow}, but never {}", listed(deny)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn lets_in(access: &Access, client: &str) -> bool {
        access.lets_in(Some(client.parse().unwrap()))
    }

    #[test]
    fn deny_wins_over_allow_and_allow_keeps_everybody_else_out() {
        let access = Access {
            allow: Some(networks(&["10.0.0.0/8", "2001:db8::/32"])),
            deny: networks(&["10.6.0.0/16"]),
        };
        for (client, is_let_in) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("2001:db8::1", true),
            ("10.6.2.3", false),
            ("::ffff:10.6.2.3", false),
            ("192.0.2.1", false),
            ("2001:db9::1", false),
        ] {
            assert_eq!(lets_in(&access, client), is_let_in, "{client}");
        }
        assert_eq!(
            access.in_words(),
            "lets in 10.0.0.0/8, 2001:db8::/32, but never 10.6.0.0/16"
        );
    }

    #[test]
    fn without_allow_only_those_are_kept_out_who_are_named() {
        let access = Access {
            allow: None,
            deny: networks(&["192.0.2.0/24"]),
        };
        assert!(lets_in(&access, "10.0.0.1") && !lets_in(&access, "192.0.2.1"));
    }

    #[test]
    fn a_client_whom_nobody_knows_is_kept_out() {
        let everybody = Access {
            allow: Some(networks(&["0.0.0.0/0", "::/0"])),
            deny: Vec::new(),
        };
        assert!(!everybody.lets_in(None));
    }
}
