//! A policy, checked: its lists say something, and nothing in them is in vain.

use std::sync::Arc;
use std::time::Duration;

use foreshade_settings::{At, List, Mistake, Mistakes, Names};

use super::raw;
use super::route::each;
use super::text::route::Network;
use crate::cidr::Cidr;
use crate::policy::access::{Access, NETWORKS_MAX};
use crate::policy::rate::{Key, LIMITS_MAX, Limit, RateLimit};
use crate::policy::{Class, Gate, Policy, Priority, gate};

/// A policy as it was written.
pub(super) struct Written {
    pub(super) access: Option<raw::Access>,
    pub(super) rates: List<At<raw::RateLimit>, 0>,
    pub(super) concurrency: Option<At<raw::Concurrency>>,
    pub(super) class: raw::Class,
    /// How long a request of the route may take.
    pub(super) timeout: Option<Duration>,
}

impl Written {
    /// What a listener asks.
    pub(super) fn of_listener(raw: &mut raw::Listener) -> Self {
        Self {
            access: raw.access.take(),
            rates: std::mem::replace(&mut raw.rate_limits, List::unread()),
            concurrency: None,
            class: raw::Class::Fixed(Priority::Normal),
            timeout: None,
        }
    }

    /// What a route asks.
    pub(super) fn of_route(raw: &mut raw::Route) -> Self {
        Self {
            access: raw.access.take(),
            rates: std::mem::replace(&mut raw.rate_limits, List::unread()),
            concurrency: raw.concurrency.take(),
            class: std::mem::replace(&mut raw.priority.value, raw::Class::Fixed(Priority::Normal)),
            timeout: Some(raw.timeout.value.0),
        }
    }
}

/// Checks a policy: nothing where nothing was written, `None` where something is wrong, and reported.
pub(super) fn policy(written: Written, mistakes: &mut Mistakes) -> Option<Option<Arc<Policy>>> {
    let access = written.access.map(|raw| access(raw, mistakes));
    let rates = rates(written.rates, mistakes);
    if let (Some(raw), Some(timeout)) = (&written.concurrency, written.timeout)
        && raw.value.wait.0 >= timeout
    {
        let what = "wait is not below the timeout of the route";
        mistakes.add(Mistake::at(raw.place(), what).expected("a wait that leaves time for an answer"));
    }
    let gate = written.concurrency.map(|raw| gate(&raw.value));
    let policy = Policy {
        access: match access {
            Some(access) => Some(access?),
            None => None,
        },
        rates: rates?,
        gate: match gate {
            Some(gate) => Some(gate?),
            None => None,
        },
        class: match written.class {
            raw::Class::Fixed(priority) => Class::Fixed(priority),
            raw::Class::Header(name) => Class::Header(name.0),
        },
    };
    Some((policy != Policy::default()).then(|| Arc::new(policy)))
}

/// Checks who is let in.
fn access(raw: raw::Access, mistakes: &mut Mistakes) -> Option<Access> {
    let raw = raw.0;
    let deny = match raw.deny {
        Some(list) => networks("deny", list, mistakes)?,
        None => Vec::new(),
    };
    let allow = match raw.allow {
        Some(list) => Some(networks("allow", list, mistakes)?),
        None => None,
    };
    for allowed in allow.iter().flatten() {
        if let Some(denied) = deny.iter().find(|denied| denied.value.holds(&allowed.value)) {
            let what = format!("allow: {} is denied by {}", allowed.value, denied.value);
            mistakes.add(
                Mistake::at(allowed.place(), what)
                    .expected("networks of which something is left to be let in"),
            );
        }
    }
    let plain = |networks: Vec<At<Cidr>>| networks.into_iter().map(|network| network.value).collect();
    Some(Access {
        allow: allow.map(plain),
        deny: plain(deny),
    })
}

/// A limit of requests under way.
pub(super) fn gate(raw: &raw::Concurrency) -> Option<Arc<Gate>> {
    Some(Arc::new(Gate::new(gate::Limit {
        concurrency: raw.limit?.0,
        room: raw.queue.0,
        wait: raw.wait.0,
    })))
}

/// Checks how many requests there may be.
fn rates(raw: List<At<raw::RateLimit>, 0>, mistakes: &mut Mistakes) -> Option<Vec<Arc<RateLimit>>> {
    let names = raw.items.iter().map(|limit| limit.value.name.as_ref());
    Names::collect("rate limit", names, raw.whole, mistakes);
    if let Some(fifth) = raw.items.get(LIMITS_MAX) {
        let what = format!("rateLimits has {} entries", raw.items.len());
        mistakes.add(Mistake::at(fifth.place(), what).expected(format!("at most {LIMITS_MAX}")));
    }
    each(raw, |limit| {
        let raw = limit.value;
        let rate_rps = raw.rate.map(|rate| rate.0);
        let limit = Limit {
            name: raw.name?.value,
            rate_rps: rate_rps?,
            burst: raw
                .burst
                .map_or_else(|| whole(rate_rps?), |burst| Some(burst.0))?,
            key: match raw.key {
                raw::LimitKey::Client => Key::Client,
                raw::LimitKey::Everybody => Key::Everybody,
                raw::LimitKey::Header(name) => Key::Header(name.0),
            },
            keys: usize::try_from(raw.keys.0).ok()?,
            dry_run: raw.dry_run,
            tells: raw.headers,
        };
        Some(Arc::new(RateLimit::new(limit)))
    })
}

/// What a second brings, as a burst.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what a burst may be"
)]
fn whole(rate_rps: f64) -> Option<u32> {
    Some(rate_rps.ceil().clamp(1.0, f64::from(raw::BURST_MAX)) as u32)
}

fn networks(key: &str, list: At<List<At<Network>, 1>>, mistakes: &mut Mistakes) -> Option<Vec<At<Cidr>>> {
    let (place, list) = (list.place(), list.value);
    let count = list.items.len();
    if count > NETWORKS_MAX {
        let what = format!("{key} has {count} entries");
        mistakes.add(Mistake::at(place, what).expected(format!("at most {NETWORKS_MAX}")));
        return None;
    }
    let networks = list
        .items
        .into_iter()
        .map(|network| network.with(network.value.0));
    let networks = networks.collect();
    list.whole.then_some(networks)
}
