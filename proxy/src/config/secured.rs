//! TLS with a cluster's endpoints: what it is spoken with, and by which name each of them has to prove itself.
//!
//! A name is verified, so there has to be one. Where the address of an endpoint is a host's name, that is the one. An
//! address is none: few certificates bear addresses, and one that was forgotten would be found by the first user. A service
//! (SRV) has hosts behind it whose names come from the network, unsigned, and prove nothing (RFC 6125 section 1.8).

use std::sync::Arc;

use foreshade_settings::{At, Mistake, Mistakes, Place, quoted};
use rustls::pki_types::ServerName;

use super::check::World;
use super::cluster::Member;
use super::dns::DnsName;
use super::text::Host;
use super::tls::{ClusterTls, origination};
use crate::tls::HTTP2;
use crate::tls::origination::{Origination, Protocols, Verify};

/// What the endpoints are spoken to with: `Some(None)` in the clear, `None` where something is wrong. Gives each member its
/// name. Whether HTTP/2 is to be agreed on with them stands beside `tls`.
pub(super) fn secured(
    (tls, http2): (Option<At<ClusterTls>>, bool),
    cluster: Option<Place>,
    members: &mut [Member],
    world: &World<'_>,
    mistakes: &mut Mistakes,
) -> Option<Option<Arc<Origination>>> {
    let Some(tls) = tls else {
        for name in members
            .iter()
            .filter_map(|member| member.raw.server_name.as_ref())
        {
            let what = "serverName has no effect: its cluster is spoken to in the clear";
            mistakes.add(Mistake::at(name.place(), what).expected("tls at the cluster"));
        }
        return Some(None);
    };
    let before = mistakes.count();
    for member in members {
        member.server_name = server_name(member, &tls.value, mistakes);
    }
    // HTTP/1.1 goes without saying.
    let protocols: Protocols = if http2 { &[HTTP2] } else { &[] };
    let made = origination((tls.value, protocols), cluster, world.originate, mistakes);
    (mistakes.count() == before).then_some(Some(made?))
}

/// The name of an endpoint. `None` where it is wrong, and reported, or where none is needed.
fn server_name(member: &Member, tls: &ClusterTls, mistakes: &mut Mistakes) -> Option<ServerName<'static>> {
    let own = member.raw.server_name.as_ref();
    let origin = member.origin.as_ref()?;
    let place = own.and_then(At::place).or(origin.place());
    let written = own.map(|name| &name.value).or(tls.server_name.as_ref());
    let name = match (written, member.named()) {
        (Some(Host(name)), _) => name.trim_matches(['[', ']']),
        (None, Some(DnsName::Host(host, _))) => host.as_str(),
        (None, _) if tls.verify == Verify::Authority => return None,
        (None, _) => {
            let what = format!("{} has no name that its certificate could bear", member.called());
            let hint =
                "write serverName at the endpoint or in tls; or verify: authority, where any name will do";
            mistakes.add(
                Mistake::at(origin.place(), what)
                    .expected("a host name in its address, or serverName")
                    .hint(hint.to_owned()),
            );
            return None;
        }
    };
    let checked = ServerName::try_from(name.to_owned());
    if checked.is_err() {
        let what = format!("{} is no name that a certificate could bear", quoted(name));
        mistakes.add(Mistake::at(place, what).expected("a host name, or an address"));
    }
    checked.ok()
}
