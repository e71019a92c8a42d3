//! Networks in CIDR notation: who is trusted, and who is meant by a source.
//!
//! A list is short and walked; a trie would pay from hundreds of networks on. An IPv4 address that comes in IPv6's clothes
//! (`::ffff:10.0.0.1`, as from a socket that listens on both) is the IPv4 address, or a rule for it would not hold.
//! Bits behind the prefix are a mistake instead of being cut off: `10.1.2.3/8` means either one machine or a network.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network, or one address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    network: IpAddr,
    /// Leading bits that count: up to 32 for IPv4, up to 128 for IPv6.
    length: u8,
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Neither an IPv4 nor an IPv6 address.
    #[error("has no IP address")]
    Address,
    /// No number, or more bits than the address has.
    #[error("has a length that is no number of bits of its address")]
    Length,
    /// Bits are set behind the prefix.
    #[error("has bits behind its length")]
    HostBits(Cidr),
}

impl Cidr {
    /// Whether an address lies in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                masked(u128::from(network.to_bits()), 32, self.length)
                    == masked(u128::from(address.to_bits()), 32, self.length)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                masked(network.to_bits(), 128, self.length) == masked(address.to_bits(), 128, self.length)
            }
            _ => false,
        }
    }

    /// Whether the other network lies in this one.
    pub fn holds(&self, other: &Self) -> bool {
        self.length <= other.length && self.contains(other.network)
    }
}

/// The leading `length` of `width` bits.
fn masked(bits: u128, width: u8, length: u8) -> u128 {
    bits.checked_shr(u32::from(width - length)).unwrap_or(0)
}

/// Whether any of the networks holds the address. Walks them: a handful each.
pub fn any_contains(networks: &[Cidr], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Address)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| CidrError::Length)?
            }
            Some(_) => return Err(CidrError::Length),
            None => width,
        };
        if length > width {
            return Err(CidrError::Length);
        }
        let network = match address {
            IpAddr::V4(a) => {
                let kept = u32::MAX.checked_shl(u32::from(32 - length)).unwrap_or(0);
                IpAddr::V4((a.to_bits() & kept).into())
            }
            IpAddr::V6(a) => {
                let kept = u128::MAX.checked_shl(u32::from(128 - length)).unwrap_or(0);
                IpAddr::V6((a.to_bits() & kept).into())
            }
        };
        let cidr = Self { network, length };
        if network == address {
            Ok(cidr)
        } else {
            Err(CidrError::HostBits(cidr))
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_other() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::10.1.1.1"),
        ] {
            assert!(
                cidr(network).contains(inside.parse().unwrap()),
                "{network} {inside}"
            );
            assert!(
                !cidr(network).contains(outside.parse().unwrap()),
                "{network} {outside}"
            );
        }
    }

    #[test]
    fn a_network_holds_the_smaller_ones_inside_of_it() {
        for (outer, inner, holds) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("10.0.0.0/8", "11.0.0.0/16", false),
            ("0.0.0.0/0", "::/0", false),
            ("::/0", "2001:db8::/32", true),
        ] {
            assert_eq!(cidr(outer).holds(&cidr(inner)), holds, "{outer} {inner}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for (text, error) in [
            ("", CidrError::Address),
            ("10.0.0/8", CidrError::Address),
            ("example.com/8", CidrError::Address),
            ("10.0.0.0/", CidrError::Length),
            ("10.0.0.0/33", CidrError::Length),
            ("10.0.0.0/+8", CidrError::Length),
            ("::/129", CidrError::Length),
            ("10.1.0.0/8", CidrError::HostBits(cidr("10.0.0.0/8"))),
            ("::1/127", CidrError::HostBits(cidr("::/127"))),
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_network_holds_an_address_exactly_if_their_leading_bits_agree(
            network: u32, address: u32, length in 0..=32u8,
        ) {
            let cut = |bits: u32| (0..length).map(|bit| bits >> (31 - bit) & 1).collect::<Vec<_>>();
            let kept = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            let network_text = format!("{}/{length}", std::net::Ipv4Addr::from(network & kept));
            let holds = cidr(&network_text).contains(std::net::Ipv4Addr::from(address).into());
            prop_assert_eq!(holds, cut(network) == cut(address));
        }
    }
}
