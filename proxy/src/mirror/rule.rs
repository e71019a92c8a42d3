//! Whether a request is copied: its method and a draw first, then the limits that all workers share.
//!
//! The draw comes before anything shared is touched, so a request that is not copied costs its worker one random number
//! and no more. The rate is a virtual schedule (GCRA, ITU-T I.371): one atomic number says when the next copy is due, and
//! the copies of all workers queue up on it. A bucket per worker would need no atomic, but connections are spread
//! unevenly, and one worker would starve while another's bucket overflows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use foreshade_contract::Share;
use foreshade_engine::moment::Moment;
use http::HeaderName;
use rand::{Rng, RngExt};

use super::limits::Limits;
use crate::config;

/// Unused copies that may be caught up on at once, as a part of a second's.
const BURST_S: f64 = 0.1;

/// Headers that let their bearer act as a user. A copy goes without them unless the route's owner says otherwise: a target
/// is often newer, less guarded, and logs more.
const WITHHELD: [&str; 11] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "x-access-token",
    "x-csrf-token",
    "x-xsrf-token",
    "x-amz-security-token",
    "x-forwarded-client-cert",
];

/// Why there is no copy of a request that should have been copied, or why it was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// More than the rate allows.
    Rate,
    /// As many copies as may be are under way.
    Busy,
    /// The mirror's thread did not keep up.
    Queue,
    /// The bytes that copies may hold in this process are used up.
    Memory,
    /// The target takes the body more slowly than the endpoint does.
    Overflow,
    /// The body is longer than the rule allows.
    TooLarge,
    /// There is no target: the endpoint has no standby, or none of the target may be chosen.
    NoTarget,
    /// The shadow serves users; what it can carry is theirs.
    ShadowServes,
    /// An upgrade, a copy of another mirror, or a target that a URI cannot hold.
    Unsuited,
    /// The answer never ends by itself: an event stream, or another protocol.
    Stream,
    /// The client went away, or broke the rules.
    ClientGone,
    /// The endpoint failed before the request was whole, or through a dead connection.
    PrimaryBroke,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 12] = [
        Self::Rate,
        Self::Busy,
        Self::Queue,
        Self::Memory,
        Self::Overflow,
        Self::TooLarge,
        Self::NoTarget,
        Self::ShadowServes,
        Self::Unsuited,
        Self::Stream,
        Self::ClientGone,
        Self::PrimaryBroke,
    ];

    /// The label in metrics and on the admin interface.
    pub fn label(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Busy => "busy",
            Self::Queue => "queue",
            Self::Memory => "memory",
            Self::Overflow => "overflow",
            Self::TooLarge => "too_large",
            Self::NoTarget => "no_target",
            Self::ShadowServes => "shadow_serves",
            Self::Unsuited => "unsuited",
            Self::Stream => "stream",
            Self::ClientGone => "client_gone",
            Self::PrimaryBroke => "primary_broke",
        }
    }
}

/// A route's mirror, and what of its limits is used up.
#[derive(Debug)]
pub struct Rule {
    policy: config::Mirror,
    withheld: Vec<HeaderName>,
    /// Nanoseconds on the proxy's clock at which the next copy is due.
    due: AtomicU64,
    under_way: AtomicUsize,
}

impl Rule {
    /// A rule of which nothing is used up.
    pub fn new(policy: config::Mirror) -> Self {
        let withheld = WITHHELD.into_iter().map(HeaderName::from_static);
        Self {
            withheld: withheld
                .filter(|name| !policy.keep_headers.contains(name))
                .collect(),
            policy,
            due: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
        }
    }

    /// What the configuration says.
    pub fn policy(&self) -> &config::Mirror {
        &self.policy
    }

    /// Whether a request with this method is to be copied. Methods that are neither safe nor one of the four writes never
    /// are: nobody knows what they do.
    // Concept: store-stream
    pub fn wants(&self, method: &str, rng: &mut (impl Rng + ?Sized)) -> bool {
        let share = match method {
            _ if is_safe(method) => self.policy.share,
            "POST" | "PUT" | "PATCH" | "DELETE" => self.policy.writes,
            _ => Share::ZERO,
        };
        share > Share::ZERO && rng.random::<f64>() < share.value()
    }

    /// Whether a copy is withheld this header.
    pub fn withholds(&self, name: &HeaderName) -> bool {
        self.withheld.contains(name)
    }

    /// Takes the next place in the schedule, if it is due.
    ///
    /// # Errors
    /// [`Reason::Rate`] where it is not.
    pub(super) fn take_turn(&self, now: Moment) -> Result<(), Reason> {
        let Some(rate) = self.policy.rate_rps else {
            return Ok(());
        };
        let now = now.as_micros().saturating_mul(1000);
        let (step, slack) = (1e9 / rate, (BURST_S - 1.0 / rate).max(0.0) * 1e9);
        let next =
            |due: u64| (due as f64 <= now as f64 + slack).then(|| due.max(now).saturating_add(whole(step)));
        self.due
            .fetch_update(Relaxed, Relaxed, next)
            .map(drop)
            .map_err(|_| Reason::Rate)
    }
}

/// Whether a method asks for no effect. Source: RFC 9110 section 9.2.1; without TRACE, which echoes credentials.
pub fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

impl PartialEq for Rule {
    /// Rules are equal if they say the same, however much of them is used up.
    fn eq(&self, other: &Self) -> bool {
        self.policy == other.policy
    }
}

/// Nanoseconds, at least one. A rate of one in centuries is one per century.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a century, which fits"
)]
fn whole(nanos: f64) -> u64 {
    nanos.clamp(1.0, 3.2e18) as u64
}

/// A copy's place among those that may be under way. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    rule: Arc<Rule>,
    limits: Arc<Limits>,
}

impl Slot {
    /// Takes a place, if the rule and the process have one left.
    ///
    /// # Errors
    /// [`Reason::Busy`] where they have not.
    pub(super) fn take(rule: &Arc<Rule>, limits: &Arc<Limits>) -> Result<Self, Reason> {
        let room = |used: usize| (used < rule.policy.concurrency).then_some(used + 1);
        rule.under_way
            .fetch_update(Relaxed, Relaxed, room)
            .map_err(|_| Reason::Busy)?;
        if !limits.begin() {
            rule.under_way.fetch_sub(1, Relaxed);
            return Err(Reason::Busy);
        }
        Ok(Self {
            rule: rule.clone(),
            limits: limits.clone(),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.rule.under_way.fetch_sub(1, Relaxed);
        self.limits.end();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::MirrorTarget;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use std::time::Duration;

    pub(in crate::mirror) fn policy() -> config::Mirror {
        config::Mirror {
            target: MirrorTarget::Shadow,
            share: Share::clamped(0.1),
            writes: Share::ZERO,
            noise: Share::ZERO,
            rate_rps: None,
            timeout: Duration::from_secs(5),
            concurrency: 2,
            body_bytes_max: 1000,
            keep_headers: Vec::new(),
        }
    }

    fn wanted(rule: &Rule, method: &str) -> usize {
        let mut rng = SmallRng::seed_from_u64(1);
        (0..10_000).filter(|_| rule.wants(method, &mut rng)).count()
    }

    // Concept: store-stream
    #[test]
    fn a_share_of_safe_requests_is_copied_and_writes_have_one_of_their_own() {
        let mut rule = Rule::new(policy());
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert!((900..1100).contains(&wanted(&rule, method)), "{method}");
        }
        assert_eq!(wanted(&rule, "POST"), 0);
        rule.policy.writes = Share::clamped(0.01);
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            assert!((70..130).contains(&wanted(&rule, method)), "{method}");
        }
        for method in ["CONNECT", "TRACE", "LOCK", "get"] {
            assert_eq!(wanted(&rule, method), 0, "{method}");
        }
    }

    // Concept: store-stream
    #[test]
    fn the_rate_holds_over_any_time_and_allows_a_tenth_of_a_second_at_once() {
        for rate in [0.5, 7.0, 100.0, 30_000.0] {
            let mut policy = policy();
            policy.rate_rps = Some(rate);
            let rule = Rule::new(policy);
            let start = Moment::from_micros(5_000_000);
            let at_once = (0..100_000).take_while(|_| rule.take_turn(start).is_ok()).count() as f64;
            assert!(
                (at_once - (rate * 0.1).max(1.0)).abs() <= 1.0,
                "{rate}: {at_once}"
            );
            let granted = (1..=100_000u64)
                .filter(|n| rule.take_turn(Moment::from_micros(5_000_000 + n * 100)).is_ok())
                .count() as f64;
            let allowed = (rate * 10.0).min(100_000.0);
            assert!((granted - allowed).abs() <= 2.0, "{rate}: {granted}");
        }
    }

    #[test]
    fn places_are_limited_and_come_back() {
        let rule = Arc::new(Rule::new(policy()));
        let limits = Arc::new(Limits::default());
        let first = Slot::take(&rule, &limits).unwrap();
        let _second = Slot::take(&rule, &limits).unwrap();
        assert_eq!(Slot::take(&rule, &limits).unwrap_err(), Reason::Busy);
        drop(first);
        assert!(Slot::take(&rule, &limits).is_ok());
        assert_eq!(limits.under_way(), 1);
    }

    #[test]
    fn credentials_are_withheld_unless_kept() {
        let mut policy = policy();
        policy.keep_headers = vec![http::header::AUTHORIZATION];
        let rule = Rule::new(policy);
        assert!(rule.withholds(&http::header::COOKIE));
        assert!(!rule.withholds(&http::header::AUTHORIZATION));
        assert!(!rule.withholds(&http::header::ACCEPT));
    }
}
