//! So many requests per second, and so many at once: a token bucket for each key.
//!
//! One for all workers, because connections are spread unevenly and stay where they are: a part of the rate for each
//! worker would refuse a client who has one connection long before his rate is reached. What they share is one number per
//! key ([`buckets`](super::buckets)), moved by one compare-and-swap per request.
//!
//! A refused request uses nothing up. Several limits are asked in their order, and a request that the second one refuses
//! has used the first one up: a client that goes on asking is not getting cheaper.
//!
//! Clients are told by the fields of draft-ietf-httpapi-ratelimit-headers-09: `RateLimit-Policy` says what holds (`q` the
//! burst, `w` the seconds in which it fills up), `RateLimit` what is left (`r`) and in how many seconds all of it is
//! back (`t`).

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use foreshade_contract::Name;
use foreshade_engine::moment::Moment;
use http::HeaderName;

use super::buckets::Buckets;
use crate::request::RequestView;
use crate::server::door::subscriber;

/// Most limits of one listener or route. Each is a place in memory that the request touches.
pub const LIMITS_MAX: usize = 4;

/// What tells addresses of clients from other keys.
const CLIENTS: u64 = 2;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// What a limit says.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// What clients and operators know it by.
    pub name: Name,
    /// Requests per second in the long run, above 0.
    pub rate_rps: f64,
    /// Requests at once, at least 1.
    pub burst: u32,
    /// Whose requests are counted together.
    pub key: Key,
    /// How many keys are told apart at a time.
    pub keys: usize,
    /// It counts what it would refuse, and refuses nothing.
    pub dry_run: bool,
    /// Clients are told what is left.
    pub tells: bool,
}

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A client's: an IPv4 address, or an IPv6 /64.
    Client,
    /// Those with the same value of a header; a client's where it is absent.
    Header(HeaderName),
    /// All that are asked.
    Everybody,
}

/// More than a century: what is ahead of its time by more than can be told would never be refused.
const SLACK_MAX_NS: u64 = u64::MAX / 4;

/// A limit, and how much of it is used up.
#[derive(Debug)]
pub struct RateLimit {
    limit: Limit,
    /// Nanoseconds that a request takes up.
    step_ns: u64,
    /// How far ahead of its time a request may come.
    slack_ns: u64,
    buckets: Buckets,
}

/// What a limit says to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is within the limit.
    pub within: bool,
    /// Requests that are left at once.
    pub left: u32,
    /// In so many seconds all of the burst is back.
    pub full_in_s: u64,
    /// In so many seconds one more request is within the limit; 0 where it is now.
    pub again_in_s: u64,
    /// Another key had to be forgotten.
    pub forgot: bool,
}

impl RateLimit {
    /// A limit of which nothing is used up.
    pub fn new(limit: Limit) -> Self {
        let step_ns = nanoseconds(1e9 / limit.rate_rps);
        let slots = match limit.key {
            Key::Everybody => 1,
            Key::Client | Key::Header(_) => limit.keys,
        };
        Self {
            step_ns,
            slack_ns: step_ns
                .saturating_mul(u64::from(limit.burst.saturating_sub(1)))
                .min(SLACK_MAX_NS),
            buckets: Buckets::new(slots),
            limit,
        }
    }

    /// What it says.
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Uses it up by one request, if there is one left.
    pub fn take(&self, view: &RequestView<'_>, now: Moment) -> Standing {
        let now_ns = now.as_micros().saturating_mul(1000);
        let address;
        let (namespace, key): (u64, &[u8]) = match &self.limit.key {
            Key::Everybody => (0, b""),
            // Of several values nobody knows which one an endpoint takes: then the client counts.
            Key::Header(name) if view.headers.only(name).is_some() => {
                (1, view.headers.only(name).unwrap_or_default())
            }
            Key::Client | Key::Header(_) => {
                address = octets(view.client);
                (CLIENTS, &address)
            }
        };
        match self.buckets.of(namespace, key, now_ns) {
            Some(bucket) => Standing {
                forgot: bucket.forgot,
                ..self.charge(bucket.due, now_ns)
            },
            // There is at least one place, so there is a bucket; without one nothing could be granted.
            None => self.standing(u64::MAX, now_ns, false),
        }
    }

    /// Gives a client one request back, as if he had not asked.
    pub(super) fn give_back(&self, client: Option<IpAddr>, now: Moment) {
        let now_ns = now.as_micros().saturating_mul(1000);
        if let Some(bucket) = self.buckets.of(CLIENTS, &octets(client), now_ns) {
            let before = |due: u64| Some(due.saturating_sub(self.step_ns));
            // It always succeeds.
            let _ = bucket.due.fetch_update(Relaxed, Relaxed, before);
        }
    }

    /// GCRA: a request is within the limit if it does not come further ahead of its time than the burst allows.
    fn charge(&self, due: &AtomicU64, now_ns: u64) -> Standing {
        let next = |due: u64| {
            (due.saturating_sub(now_ns) <= self.slack_ns)
                .then(|| due.max(now_ns).saturating_add(self.step_ns))
        };
        match due.fetch_update(Relaxed, Relaxed, next) {
            Ok(before) => self.standing(before.max(now_ns).saturating_add(self.step_ns), now_ns, true),
            Err(due) => self.standing(due, now_ns, false),
        }
    }

    fn standing(&self, due_ns: u64, now_ns: u64, within: bool) -> Standing {
        let used_ns = due_ns.saturating_sub(now_ns);
        let whole_ns = self.slack_ns.saturating_add(self.step_ns);
        let left = whole_ns.saturating_sub(used_ns) / self.step_ns;
        Standing {
            within,
            left: u32::try_from(left).unwrap_or(u32::MAX),
            full_in_s: used_ns.div_ceil(SECOND),
            again_in_s: used_ns.saturating_sub(self.slack_ns).div_ceil(SECOND),
            forgot: false,
        }
    }

    /// Writes its item of `RateLimit-Policy`. Names have no letter that would have to be escaped.
    pub fn write_policy(&self, out: &mut String) {
        let Limit { name, burst, .. } = &self.limit;
        let window = self.slack_ns.saturating_add(self.step_ns).div_ceil(SECOND);
        separate(out);
        // Writing to a string cannot fail.
        let _ = write!(out, "\"{name}\";q={burst};w={window}");
    }

    /// Writes its item of `RateLimit`.
    pub fn write_standing(&self, standing: &Standing, out: &mut String) {
        separate(out);
        let _ = write!(
            out,
            "\"{}\";r={};t={}",
            self.limit.name, standing.left, standing.full_in_s
        );
    }

    /// In a line.
    pub fn in_words(&self) -> String {
        let Limit {
            name,
            rate_rps,
            burst,
            ..
        } = &self.limit;
        let by = match &self.limit.key {
            Key::Client => "of one client".to_owned(),
            Key::Header(header) => format!("with one {header}"),
            Key::Everybody => "of all together".to_owned(),
        };
        let dry = if self.limit.dry_run { ", counted only" } else { "" };
        format!("limit {name}: {rate_rps} requests a second {by}, {burst} at once{dry}")
    }
}

impl PartialEq for RateLimit {
    /// Limits are equal if they say the same, however much of them is used up.
    fn eq(&self, other: &Self) -> bool {
        self.limit == other.limit
    }
}

/// What stands for a client: nothing for one whom nobody knows, so that those are counted together.
fn octets(client: Option<IpAddr>) -> [u8; 16] {
    match client.map(subscriber) {
        Some(IpAddr::V4(address)) => address.to_ipv6_mapped().octets(),
        Some(IpAddr::V6(address)) => address.octets(),
        None => [0; 16],
    }
}

fn separate(out: &mut String) {
    if !out.is_empty() {
        out.push_str(", ");
    }
}

/// Nanoseconds, at least one. A rate of one in centuries is one per century.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a century, which fits"
)]
fn nanoseconds(nanos: f64) -> u64 {
    nanos.clamp(1.0, 3.2e18) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use proptest::prelude::*;

    fn limit(rate_rps: f64, burst: u32, key: Key) -> RateLimit {
        RateLimit::new(Limit {
            name: "per-client".parse().unwrap(),
            rate_rps,
            burst,
            key,
            keys: 1024,
            dry_run: false,
            tells: true,
        })
    }

    fn take(limit: &RateLimit, client: &str, ms: u64) -> Standing {
        let headers = HeaderMap::new();
        let view = RequestView {
            client: client.parse().ok(),
            ..RequestView::of("GET", &headers)
        };
        limit.take(&view, Moment::from_micros(1_000_000 + ms * 1000))
    }

    #[test]
    fn a_burst_is_granted_at_once_and_comes_back_at_the_rate() {
        let limit = limit(10.0, 3, Key::Client);
        for (left, again_in_s) in [(2, 0), (1, 0), (0, 1)] {
            let standing = take(&limit, "192.0.2.1", 0);
            let found = (standing.within, standing.left, standing.again_in_s);
            assert_eq!(found, (true, left, again_in_s));
        }
        let refused = take(&limit, "192.0.2.1", 0);
        assert_eq!((refused.within, refused.left, refused.again_in_s), (false, 0, 1));
        assert!(!take(&limit, "192.0.2.1", 99).within);
        assert!(take(&limit, "192.0.2.1", 100).within);
        assert!(!take(&limit, "192.0.2.1", 100).within);
        assert!(
            take(&limit, "192.0.2.2", 100).within,
            "another client has his own"
        );
        let rested = take(&limit, "192.0.2.1", 10_000);
        assert_eq!(
            (rested.within, rested.left),
            (true, 2),
            "no more than a burst is saved up"
        );
    }

    #[test]
    fn a_slow_limit_says_when_to_come_back() {
        let limit = limit(0.1, 2, Key::Client);
        assert_eq!(take(&limit, "192.0.2.1", 0).full_in_s, 10);
        assert_eq!(take(&limit, "192.0.2.1", 0).full_in_s, 20);
        assert_eq!(take(&limit, "192.0.2.1", 500).again_in_s, 10);
        assert_eq!(take(&limit, "192.0.2.1", 9_500).again_in_s, 1);
        assert!(take(&limit, "192.0.2.1", 10_000).within);
    }

    #[test]
    fn an_ipv6_client_is_his_slash_64_and_an_ipv4_one_in_its_clothes_himself() {
        let limit = limit(1.0, 1, Key::Client);
        assert!(take(&limit, "2001:db8::1", 0).within);
        assert!(!take(&limit, "2001:db8::ffff", 0).within);
        assert!(take(&limit, "2001:db8:0:1::1", 0).within);
        assert!(take(&limit, "192.0.2.1", 0).within);
        assert!(!take(&limit, "::ffff:192.0.2.1", 0).within);
    }

    #[test]
    fn of_a_header_that_comes_twice_none_is_the_key() {
        let limit = limit(1.0, 1, Key::Header(HeaderName::from_static("x-api-key")));
        let asked = |values: [&'static str; 2]| {
            let name = HeaderName::from_static("x-api-key");
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(name.clone(), http::HeaderValue::from_static(value));
            }
            let view = RequestView {
                client: "192.0.2.1".parse().ok(),
                ..RequestView::of("GET", &headers)
            };
            limit.take(&view, Moment::from_micros(5)).within
        };
        assert!(asked(["random-1", "real"]));
        assert!(!asked(["random-2", "real"]), "it is the client that counts");
    }

    #[test]
    fn a_limit_beyond_all_time_still_refuses_in_the_end() {
        let limit = limit(1e-9, u32::MAX, Key::Everybody);
        assert!(limit.slack_ns < u64::MAX / 2);
    }

    #[test]
    fn a_header_is_a_key_and_whoever_has_none_is_known_by_his_address() {
        let limit = limit(1.0, 1, Key::Header(HeaderName::from_static("x-api-key")));
        let asked = |key: Option<&str>, client: &str| {
            let headers: HeaderMap = key
                .map(|key| (HeaderName::from_static("x-api-key"), key.parse().unwrap()))
                .into_iter()
                .collect();
            let view = RequestView {
                client: client.parse().ok(),
                ..RequestView::of("GET", &headers)
            };
            limit.take(&view, Moment::from_micros(5)).within
        };
        assert!(asked(Some("a"), "192.0.2.1") && !asked(Some("a"), "192.0.2.2"));
        assert!(asked(Some("b"), "192.0.2.1"));
        assert!(asked(None, "192.0.2.1") && !asked(None, "192.0.2.1") && asked(None, "192.0.2.2"));
    }

    #[test]
    fn all_together_share_one_bucket() {
        let limit = limit(1.0, 2, Key::Everybody);
        assert!(take(&limit, "192.0.2.1", 0).within && take(&limit, "192.0.2.2", 0).within);
        assert!(!take(&limit, "192.0.2.3", 0).within);
    }

    #[test]
    fn the_fields_are_those_of_the_draft() {
        let limit = limit(5.0, 20, Key::Client);
        let standing = take(&limit, "192.0.2.1", 0);
        let (mut policy, mut left) = (String::new(), String::new());
        limit.write_policy(&mut policy);
        limit.write_policy(&mut policy);
        limit.write_standing(&standing, &mut left);
        assert_eq!(policy, "\"per-client\";q=20;w=4, \"per-client\";q=20;w=4");
        assert_eq!(left, "\"per-client\";r=19;t=1");
    }

    #[test]
    fn workers_that_ask_at_once_grant_no_more_than_the_burst() {
        let limit = limit(0.001, 1000, Key::Client);
        let granted: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).filter(|_| take(&limit, "192.0.2.1", 0).within).count()))
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        // Their first requests may have found the place free at the same time.
        assert!((1000..=1003).contains(&granted), "{granted}");
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_is_granted_than_the_burst_and_the_rate(
            rate in 0.5..500.0f64, burst in 1..50u32, gaps in proptest::collection::vec(0..200u64, 1..200),
        ) {
            let limit = limit(rate, burst, Key::Client);
            let (mut now, mut granted) = (0, Vec::new());
            for gap in gaps {
                now += gap;
                if take(&limit, "192.0.2.1", now).within {
                    granted.push(now);
                }
            }
            for (at, from) in granted.iter().enumerate() {
                for (to, until) in granted.iter().enumerate().skip(at) {
                    let allowed = f64::from(burst) + (until - from) as f64 / 1000.0 * rate;
                    prop_assert!(((to - at + 1) as f64) <= allowed + 1e-6, "{from} to {until}");
                }
            }
        }
    }
}
