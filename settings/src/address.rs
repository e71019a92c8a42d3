//! Addresses as the file has them, and what they are by the resolver of this machine.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use serde_json::{Value as Json, json};

use crate::mistake::{Mistake, Mistakes, quoted};
use crate::read::{At, Scalar, Shown, Wrong};

/// How a host name and a port become addresses, the preferred one first.
pub type Resolve<'a> = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + 'a;

/// A host and a port, not resolved yet.
#[derive(Clone, Debug)]
pub enum Address {
    /// An IP address.
    Ip(SocketAddr),
    /// The name of a host.
    Host(String, u16),
}

impl Scalar for Address {
    fn expected() -> String {
        "an address, as 127.0.0.1:8080, [::1]:8080 or host:8080".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        if let Some((_, rest)) = text.split_once("://") {
            let rest = rest.trim_end_matches('/');
            return Err(Wrong::because("has a scheme").hint(format!("write {rest}")));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(Wrong::because("has no port").hint(format!("write [{text}]:8080")));
        }
        let Some((host, port)) = text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) else {
            return Err(Wrong::because("has no port").hint(format!("write {text}:8080")));
        };
        let port: u16 = port
            .parse()
            .map_err(|_| Wrong::because("has a port that is not from 1 to 65535"))?;
        if port == 0 {
            return Err(Wrong::because("has port 0").hint("write the port that is meant".to_owned()));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        if host.is_empty() || host == "*" {
            let hint = format!("write 0.0.0.0:{port} to listen on every address");
            return Err(Wrong::because("has no host").hint(hint));
        }
        if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(Wrong::because(
                "has a host that is neither an IPv4 address nor a name",
            ));
        }
        if !is_host_name(host) {
            return Err(Wrong::because("has a host with characters that no host has"));
        }
        Ok(Self::Host(host.to_owned(), port))
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^.+:[0-9]{1,5}$" })
    }
}

impl Shown for Address {
    fn shown(&self) -> Json {
        match self {
            Self::Ip(address) => address.to_string().into(),
            Self::Host(host, port) => format!("{host}:{port}").into(),
        }
    }
}

/// Whether a resolver may be asked for this.
pub fn is_host_name(text: &str) -> bool {
    // 253 is what the DNS can carry; `_` is no letter of a host name, but of many a container's.
    let letters = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    letters && (1..=253).contains(&text.len()) && !text.starts_with('.')
}

/// The socket address behind what was written: of a host the first one that it has when the file is loaded.
pub fn address(
    written: Option<&At<Address>>,
    resolve: &Resolve<'_>,
    mistakes: &mut Mistakes,
) -> Option<At<SocketAddr>> {
    let written = written?;
    let (host, port) = match &written.value {
        Address::Ip(address) => return Some(written.with(*address)),
        Address::Host(host, port) => (host, *port),
    };
    let fault = match resolve(host, port) {
        Ok(addresses) => match addresses.first() {
            Some(address) => return Some(written.with(*address)),
            None => "no addresses".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    mistakes.add(
        Mistake::at(
            written.place(),
            format!("address: the host {} cannot be resolved: {fault}", quoted(host)),
        )
        .expected("a host that has an address when the file is loaded")
        .hint("write its IP address, or check the name and the resolver of this machine".to_owned()),
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for text in [
            "127.0.0.1:80",
            "[::1]:80",
            "localhost:80",
            "my_app.svc.local.:65535",
        ] {
            assert!(Address::parse(text).is_ok(), "{text}");
        }
        for text in [
            "",
            ":",
            ":80",
            "*:80",
            "localhost",
            "127.0.0.1",
            "::1",
            "[::1]",
            "a:0",
            "a:65536",
            "a:x",
            "a:-1",
            "http://a:80",
            "256.1.1.1:80",
            "a b:80",
            "[::1:80",
            "[x]:80",
            "é:80",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
