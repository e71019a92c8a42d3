//! A cluster: who shadows whom, and whether its numbers go together.
//!
//! `shadow:` names a standby or another endpoint of the same cluster, and it ends there: a shadow that has a shadow of
//! its own would make one failure travel, and a circle would hand a burning load round and round. Both are refused. So
//! is a standby that nobody names: its owner believes to be protected and is not. Only where a controller is followed, and
//! some endpoint names no shadow, may there be some for it to choose from; the controller checks that it may.

use std::collections::HashMap;
use std::net::SocketAddr;

use foreshade_contract::Share;
use foreshade_engine::spec::ShiftPolicy;
use foreshade_settings::{At, List, Mistake, Mistakes, Names, Place, quoted};
use rustls::pki_types::ServerName;

use super::check::{World, overlap};
use super::dns::{self, DnsName};
use super::secured::secured;
use super::tcp::announced;
use super::text::Origin;
use super::{Cluster, CohortKey, HealthCheck, Probe, Segment, SegmentRule, http2, policy, raw, sticky};

/// An endpoint or a shadow, before its role is known.
pub(super) struct Member {
    pub(super) raw: raw::Endpoint,
    pub(super) standby: bool,
    pub(super) origin: Option<At<Origin>>,
    /// What its certificate has to bear; its address where `None`.
    pub(super) server_name: Option<ServerName<'static>>,
}

impl Member {
    /// Its address, where the file says it.
    pub(super) fn fixed(&self) -> Option<SocketAddr> {
        match self.origin.as_ref()?.value {
            Origin::Fixed(address) => Some(address),
            Origin::Named(_) => None,
        }
    }

    /// The name that stands for its addresses.
    pub(super) fn named(&self) -> Option<&DnsName> {
        match &self.origin.as_ref()?.value {
            Origin::Fixed(_) => None,
            Origin::Named(name) => Some(name),
        }
    }

    pub(super) fn called(&self) -> String {
        self.raw
            .name
            .as_ref()
            .map_or("another endpoint".to_owned(), |name| quoted(name.value.as_str()))
    }
}

/// What a cluster has to know of the rest of the file.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// The addresses of this proxy itself, and whose they are.
    pub(super) listening: &'a [(SocketAddr, String)],
    /// A controller may give a shadow to endpoints that name none.
    pub(super) follows: bool,
    /// Nothing but datagrams is sent to it.
    pub(super) is_udp: bool,
}

/// Checks a cluster.
pub(super) fn cluster(
    raw: raw::Cluster,
    Around {
        listening,
        follows,
        is_udp,
    }: Around<'_>,
    world: &World<'_>,
    mistakes: &mut Mistakes,
) -> Option<Cluster> {
    let http2 = http2::http2(&raw, mistakes);
    let endpoints = raw.endpoints.unwrap_or_else(List::unread);
    let (whole, sound) = (endpoints.whole && raw.shadows.whole, endpoints.sound);
    let mut members = members(endpoints.items, raw.shadows.items);
    let names = Names::collect(
        "endpoint or shadow",
        members.iter().map(|member| member.raw.name.as_ref()),
        whole,
        mistakes,
    );
    let shadows: Vec<Option<usize>> = members
        .iter()
        .map(|member| names.find("shadow", member.raw.shadow.as_ref(), mistakes))
        .collect();
    check_shadows(&members, &shadows, mistakes);
    let is_given_one = follows
        && members
            .iter()
            .any(|member| !member.standby && member.raw.shadow.is_none());
    if !is_given_one {
        check_idle(&members, &shadows, sound && names.unique, mistakes);
    }
    check_addresses(&members, &shadows, listening, mistakes);
    check_names(&members, mistakes);
    let place = raw.name.as_ref().and_then(At::place);
    let tls = secured((raw.tls, http2.is_some()), place, &mut members, world, mistakes);
    let shift = shift(&raw.shift, mistakes);
    let is_written = raw.health.place().is_some();
    let health = match raw.health.value {
        raw::Health::Off => None,
        // Whoever serves datagrams need not take connections.
        raw::Health::On(_) if is_udp && !is_written => None,
        raw::Health::On(probes) => Some(health(*probes, mistakes)),
    };
    let segments = segments(raw.segments.items, mistakes);
    let sticky = sticky::sticky(raw.sticky, raw.name.as_ref(), mistakes);
    Some(Cluster {
        name: raw.name?.value,
        names: members.iter().filter_map(|m| m.named().cloned()).collect(),
        endpoints: if members.iter().all(|m| m.origin.is_some()) {
            dns::expand(
                members,
                &shadows,
                listening,
                (world.answers, tls.as_ref()?.as_ref()),
            )?
        } else {
            return None;
        },
        http2,
        balance: raw.balance.0,
        cohort: match raw.cohort {
            raw::Cohort::ClientAddress => CohortKey::ClientAddress,
            raw::Cohort::Header(name) => CohortKey::Header(name.0),
            raw::Cohort::Cookie(name) => CohortKey::Cookie(name.0),
        },
        segments: segments?,
        health,
        shift,
        connect_timeout: raw.connect_timeout.0,
        slow_start: raw.slow_start.0,
        idle_timeout: raw.idle_timeout.0,
        gate: match raw.concurrency {
            Some(raw) => Some(policy::gate(raw.value, mistakes)?),
            None => None,
        },
        sticky: sticky?,
        proxy_protocol: announced(raw.proxy_protocol.value),
        tls: tls?,
    })
}

fn members(endpoints: Vec<raw::Endpoint>, shadows: Vec<raw::Shadow>) -> Vec<Member> {
    let endpoints = endpoints.into_iter().map(|endpoint| (endpoint, false));
    let shadows = shadows.into_iter().map(|shadow| (shadow.into(), true));
    let member = |(mut raw, standby): (raw::Endpoint, bool)| Member {
        origin: raw.address.take(),
        raw,
        standby,
        server_name: None,
    };
    endpoints.chain(shadows).map(member).collect()
}

/// No endpoint shadows itself, and every shadow is the end of the line.
fn check_shadows(members: &[Member], shadows: &[Option<usize>], mistakes: &mut Mistakes) {
    let next = |position: usize| shadows.get(position).copied().flatten();
    for (position, member) in members.iter().enumerate() {
        let (Some(first), Some(reference)) = (next(position), &member.raw.shadow) else {
            continue;
        };
        if first == position {
            mistakes.add(
                Mistake::at(
                    reference.place(),
                    format!("{} is its own shadow", member.called()),
                )
                .expected("the name of another endpoint or shadow"),
            );
            continue;
        }
        let Some(second) = next(first) else { continue };
        if first == second {
            // The one that shadows itself is reported; whoever names it is not to blame.
            continue;
        }
        let way = way_from(position, shadows);
        if next(way.last().copied().unwrap_or(position)) != Some(position) {
            let shadow = members.get(first).map_or_else(String::new, Member::called);
            mistakes.add(
                Mistake::at(
                    reference.place(),
                    format!("the shadow {shadow} has a shadow of its own"),
                )
                .expected("a shadow without a shadow"),
            );
        } else if way.iter().min() == Some(&position) {
            // A circle is one mistake, told at the first endpoint of it.
            let names = way
                .iter()
                .chain([&position])
                .filter_map(|position| members.get(*position));
            let names = names.map(Member::called).collect::<Vec<_>>().join(" -> ");
            mistakes.add(
                Mistake::at(reference.place(), format!("a circle of shadows: {names}"))
                    .expected("shadows without shadows of their own"),
            );
        }
    }
}

/// The positions from `start` along the shadows, until the way ends or comes to a place where it was.
fn way_from(start: usize, shadows: &[Option<usize>]) -> Vec<usize> {
    /// A longer circle is reported as what it also is: shadows with shadows.
    const STEPS_MAX: usize = 64;
    let mut way = vec![start];
    while let Some(next) = way.last().and_then(|last| shadows.get(*last).copied().flatten()) {
        if way.contains(&next) || way.len() >= STEPS_MAX {
            break;
        }
        way.push(next);
    }
    way
}

/// Every standby stands by for somebody.
fn check_idle(members: &[Member], shadows: &[Option<usize>], sound: bool, mistakes: &mut Mistakes) {
    // An endpoint that could not be read in full, or a name that was not found, may have meant any of them.
    let unclear = members
        .iter()
        .zip(shadows)
        .any(|(member, found)| member.raw.shadow.is_some() && found.is_none());
    if unclear || !sound {
        return;
    }
    let mut used = vec![false; members.len()];
    for position in shadows.iter().flatten() {
        if let Some(used) = used.get_mut(*position) {
            *used = true;
        }
    }
    for (member, used) in members.iter().zip(used) {
        if let (true, false, Some(name)) = (member.standby, used, &member.raw.name) {
            let what = format!("no endpoint has the shadow {}", member.called());
            mistakes.add(
                Mistake::at(name.place(), what)
                    .expected("a shadow that an endpoint names")
                    .hint(format!(
                        "write shadow: {} at an endpoint, or remove the shadow",
                        name.value
                    )),
            );
        }
    }
}

/// Every member has an address of its own, and none is this proxy.
fn check_addresses(
    members: &[Member],
    shadows: &[Option<usize>],
    listening: &[(SocketAddr, String)],
    mistakes: &mut Mistakes,
) {
    let mut first_at: HashMap<SocketAddr, usize> = HashMap::new();
    for (position, member) in members.iter().enumerate() {
        let Some((origin, address)) = member.origin.as_ref().zip(member.fixed()) else {
            continue;
        };
        let place = origin.place();
        if address.ip().is_unspecified() {
            mistakes.add(
                Mistake::at(
                    place,
                    format!("address: nobody can be reached at {}", address.ip()),
                )
                .expected("the address of one machine"),
            );
        } else if let Some((_, whose)) = listening.iter().find(|(own, _)| is_own(*own, address)) {
            mistakes.add(
                Mistake::at(place, format!("address: {address} is {whose} of this proxy"))
                    .expected("the address of another server; requests would go round in circles"),
            );
        }
        let first = *first_at.entry(address).or_insert(position);
        let Some(other) = members.get(first).filter(|_| first != position) else {
            continue;
        };
        let pair = |a: usize, b: usize| shadows.get(a) == Some(&Some(b));
        let what = if pair(first, position) || pair(position, first) {
            format!(
                "{} and its shadow are one: both are {address}",
                if pair(first, position) { other } else { member }.called()
            )
        } else {
            format!("address: {address} is the address of {} already", other.called())
        };
        mistakes.add(Mistake::at(place, what).expected("an address of its own"));
    }
}

/// Names of endpoints leave room for the numbers of addresses, and no two have the same.
fn check_names(members: &[Member], mistakes: &mut Mistakes) {
    let mut seen: HashMap<&DnsName, String> = HashMap::new();
    for member in members {
        let (Some(dns), Some(name)) = (member.named(), &member.raw.name) else {
            continue;
        };
        let stem = name.value.as_str();
        if stem.len() > dns::STEM_BYTES_MAX {
            let what = format!(
                "name: {} is too long for an endpoint whose address is a name",
                quoted(stem)
            );
            mistakes.add(Mistake::at(name.place(), what).expected(format!(
                "at most {} characters: further addresses get a number",
                dns::STEM_BYTES_MAX
            )));
        }
        let others = members.iter().filter_map(|m| m.raw.name.as_ref());
        for other in others.filter(|other| dns::is_numbered(other.value.as_str(), stem)) {
            let what = format!(
                "name: {} may be an address of {}",
                quoted(other.value.as_str()),
                quoted(stem)
            );
            mistakes.add(
                Mistake::at(other.place(), what).expected("a name that does not end in a number like it"),
            );
        }
        let place = member.origin.as_ref().and_then(At::place);
        if let Some(first) = seen.insert(dns, member.called()) {
            let what = format!("address: {dns} is the address of {first} already");
            mistakes.add(Mistake::at(place, what).expected("an address of its own"));
        }
    }
}

/// Whether a request to `address` would come back to a socket of this proxy that listens on `own`.
pub(super) fn is_own(own: SocketAddr, address: SocketAddr) -> bool {
    // The port of an unspecified address is taken on this machine only; other machines are free to use it.
    if own.ip().is_unspecified() {
        own.port() == address.port() && address.ip().is_loopback()
    } else {
        overlap(own, address)
    }
}

fn shift(raw: &raw::Shift, mistakes: &mut Mistakes) -> ShiftPolicy {
    let mut ordered = |holds: bool, places: [Option<Place>; 2], what: &str, expected: &str| {
        if !holds {
            let [first, second] = places;
            mistakes.add(Mistake::at(first.or(second), what).expected(expected));
        }
    };
    ordered(
        raw.release.value.0 < raw.engage.value.0,
        [raw.release.place(), raw.engage.place()],
        &format!("release ({}) is not below engage ({})", raw.release, raw.engage),
        "release below engage, or a shift would end as it begins",
    );
    ordered(
        raw.engage.value.0 < raw.full.value.0,
        [raw.full.place(), raw.engage.place()],
        &format!("full ({}) is not above engage ({})", raw.full, raw.engage),
        "full above engage, or a shift would not be gradual",
    );
    ordered(
        raw.canary.value.0 <= raw.share_max.value.0,
        [raw.canary.place(), raw.share_max.place()],
        &format!("canary ({}) is above shareMax ({})", raw.canary, raw.share_max),
        "canary at most shareMax",
    );
    ordered(
        raw.hold.value.0 <= raw.hold_max.value.0,
        [raw.hold.place(), raw.hold_max.place()],
        &format!("hold ({}) is above holdMax ({})", raw.hold, raw.hold_max),
        "hold at most holdMax",
    );
    ShiftPolicy {
        enabled: raw.enabled,
        engage: raw.engage.value.0,
        release: raw.release.value.0,
        full: raw.full.value.0,
        share_max: Share::clamped(raw.share_max.value.0),
        canary: Share::clamped(raw.canary.value.0),
        hold: raw.hold.value.0,
        hold_max: raw.hold_max.value.0,
        return_per_second: raw.return_per_second.0,
        capacity_fill: raw.capacity_fill.0,
    }
}

fn health(raw: raw::Probes, mistakes: &mut Mistakes) -> HealthCheck {
    if raw.timeout.value.0 > raw.interval.value.0 {
        let what = format!("timeout ({}) is above interval ({})", raw.timeout, raw.interval);
        mistakes.add(
            Mistake::at(raw.timeout.place().or(raw.interval.place()), what)
                .expected("timeout at most interval, or probes would pile up"),
        );
    }
    let tcp = raw.tcp.as_ref().map(At::place);
    let grpc = raw.grpc.as_ref().map(At::place);
    let udp = raw.udp.as_ref().map(At::place);
    let places = [raw.http.as_ref().map(|_| None), grpc, tcp, udp];
    if let Some(place) = places.into_iter().flatten().nth(1) {
        mistakes.add(Mistake::at(place, "a probe asks one thing").expected("one of http, grpc, tcp and udp"));
    }
    HealthCheck {
        probe: match (raw.http, raw.grpc, raw.udp) {
            (Some(http), ..) => Probe::Http {
                path: http.path.0,
                host: http.host.map(|host| host.0),
            },
            (None, Some(grpc), _) => Probe::Grpc {
                service: grpc.value.service.map(|service| service.0).unwrap_or_default(),
                host: grpc.value.host.map(|host| host.0),
            },
            (None, None, Some(udp)) => Probe::Udp {
                send: udp.value.send.map(|send| send.0).unwrap_or_default(),
                expect: udp.value.expect.map(|expect| expect.0).unwrap_or_default(),
            },
            (None, None, None) => Probe::Tcp,
        },
        interval: raw.interval.value.0,
        timeout: raw.timeout.value.0,
        rise: raw.rise.0,
        fall: raw.fall.0,
    }
}

fn segments(raw: Vec<raw::Segment>, mistakes: &mut Mistakes) -> Option<Vec<Segment>> {
    Names::collect(
        "segment",
        raw.iter().map(|segment| segment.name.as_ref()),
        true,
        mistakes,
    );
    /// All of it, but for what ten additions of 0.1 lack of 1.
    const WHOLE: f64 = 1.0 - 1e-9;
    let mut total = 0.0;
    let mut segments = Vec::new();
    for raw in raw {
        if let Some(part) = &raw.part {
            let before = total;
            total += part.value.0;
            if before < WHOLE && total >= WHOLE {
                mistakes.add(
                    Mistake::at(
                        part.place(),
                        "the segments up to here take the whole way of a shift",
                    )
                    .expected("parts of less than 100% together: everybody else needs the rest"),
                );
            }
        }
        segments.push(segment(raw));
    }
    segments.into_iter().collect()
}

fn segment(raw: raw::Segment) -> Option<Segment> {
    let raw::SegmentMatch { header, cookie } = raw.matches?.0;
    let mut rules = Vec::new();
    if let Some(rule) = header {
        rules.push(SegmentRule::Header {
            name: rule.name?.0,
            value: rule.value?.0,
        });
    }
    if let Some(rule) = cookie {
        rules.push(SegmentRule::Cookie {
            name: rule.name?.0,
            value: rule.value?.0,
        });
    }
    Some(Segment {
        name: raw.name?.value,
        rules,
        part: Share::clamped(raw.part?.value.0),
    })
}
