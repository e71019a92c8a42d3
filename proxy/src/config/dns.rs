//! Endpoints whose address is a name: what the file says of them, and what they become once the name has answers.
//!
//! A file says one endpoint, its name has any number of addresses, and each of them is an endpoint of its own: with its own
//! risk, its own shift, its own history. The first is called as in the file, the others `-2`, `-3` and so on, by
//! numbers that an address keeps for as long as the name has it. A shadow whose address is a name stands by address for
//! address: number 2 for number 2, and where there are fewer of them, in turn.
//!
//! Answers are nobody's mistake. An address that the cluster has already, or that is a listener of this proxy, is left
//! out; a name without addresses leaves its endpoint out, and everything else stands.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use foreshade_contract::Name;
use foreshade_engine::spec::Role;

use super::Endpoint;
use super::cluster::{Member, is_own};
use super::text::Origin;
use crate::tls::origination::{Destination, Origination};

/// Most addresses of one name that become endpoints. Who needs more has a balancer behind the name.
pub const ADDRESSES_MAX: usize = 64;

/// Longest name of an endpoint whose address is a name: what a number takes must be left.
pub(super) const STEM_BYTES_MAX: usize = foreshade_contract::name::NAME_BYTES_MAX - "-64".len();

/// A name that stands for addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DnsName {
    /// A host, asked for its addresses; the port is known.
    Host(String, u16),
    /// A service, asked for hosts and ports (RFC 2782).
    Service(String),
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Service(name) => f.write_str(name),
        }
    }
}

/// One address of a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// From 1; kept for as long as the name has the address.
    pub number: u32,
    /// Where it is.
    pub address: SocketAddr,
    /// Its weight among the addresses of the name, 1 on average.
    pub weight: f64,
}

/// What names stand for now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers(pub HashMap<DnsName, Vec<Found>>);

/// Makes endpoints of a cluster's members: primaries first, as in the file. `shadows` are the members' shadows by position,
/// `listening` this proxy's own addresses, `tls` what they are spoken to with.
pub(super) fn expand(
    members: Vec<Member>,
    shadows: &[Option<usize>],
    listening: &[(SocketAddr, String)],
    (answers, tls): (&Answers, Option<&Arc<Origination>>),
) -> Option<Vec<Endpoint>> {
    let groups = groups(&members, listening, answers);
    let starts: Vec<usize> = groups
        .iter()
        .scan(0, |next, group| {
            Some(std::mem::replace(next, *next + group.len()))
        })
        .collect();
    // Where the shadow of the address with this number is.
    let shadow_of = |position: usize, number: u32| {
        let shadow = shadows.get(position).copied().flatten()?;
        let (group, start) = (groups.get(shadow)?, starts.get(shadow)?);
        let same = group.iter().position(|found| found.number == number);
        let in_turn = || (number as usize).saturating_sub(1).checked_rem(group.len());
        Some(start + same.or_else(in_turn)?)
    };
    let mut endpoints = Vec::new();
    for ((position, member), group) in members.into_iter().enumerate().zip(&groups) {
        let name = member.raw.name?.value;
        for found in group {
            endpoints.push(Endpoint {
                name: numbered(&name, found.number),
                address: found.address,
                role: if member.standby {
                    Role::Shadow
                } else {
                    Role::Primary {
                        shadow: shadow_of(position, found.number),
                    }
                },
                region: member.raw.region.clone(),
                weight: member.raw.weight.0 * found.weight,
                capacity_rps: member.raw.capacity.map(|rate| rate.0),
                tls: tls.map(|tls| {
                    let name = member.server_name.clone();
                    let name = name.unwrap_or_else(|| found.address.ip().into());
                    Arc::new(Destination::new(tls, name))
                }),
            });
        }
    }
    Some(endpoints)
}

/// The addresses of each member. What is written in the file comes before what a name says.
fn groups(members: &[Member], listening: &[(SocketAddr, String)], answers: &Answers) -> Vec<Vec<Found>> {
    let mut taken: HashSet<SocketAddr> = members.iter().filter_map(Member::fixed).collect();
    let mut usable = |found: &Found| {
        let address = found.address;
        let own = listening.iter().any(|(own, _)| is_own(*own, address));
        !own && !address.ip().is_unspecified() && taken.insert(address)
    };
    let mut group = |member: &Member| match member.origin.as_ref().map(|origin| &origin.value) {
        Some(Origin::Fixed(address)) => vec![Found {
            number: 1,
            address: *address,
            weight: 1.0,
        }],
        Some(Origin::Named(name)) => {
            let found = answers.0.get(name).into_iter().flatten().copied();
            found.filter(&mut usable).take(ADDRESSES_MAX).collect()
        }
        None => Vec::new(),
    };
    members.iter().map(&mut group).collect()
}

/// `shop`, `shop-2`, `shop-3`.
fn numbered(name: &Name, number: u32) -> Name {
    let numbered = (number > 1).then(|| format!("{name}-{number}").parse().ok());
    // Checked to fit when the file was read.
    numbered.flatten().unwrap_or_else(|| name.clone())
}

/// Whether a member of this name could be taken for a numbered address of `stem`.
pub(super) fn is_numbered(name: &str, stem: &str) -> bool {
    let number = name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-'));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}
