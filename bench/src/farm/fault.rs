//! What can be wrong with an endpoint, as data, and what that means for one request and for the whole process.
//!
//! The faults are those that a health check misses (slow, half broken, hanging, one path bad) beside the one that it
//! finds (gone). A fault has three parts that know nothing of each other: its [`Kind`], the requests that suffer
//! ([`Only`]), and when it is there ([`Times`]). So a fault that flaps, or one of large bodies alone, is no kind of
//! its own. An endpoint may have several at once: factors multiply, and whatever else they say, the last of the list
//! wins.
//!
//! Nothing here has a clock or a socket: ages come in, and what the process ([`Condition`]) and a request
//! ([`Treatment`]) meet goes out. [`serving`](crate::farm) does it to real sockets, the simulator to modelled ones.

use std::time::Duration;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

pub use times::Times;

mod check;
mod times;
mod written;

/// Faults of one endpoint at the same time: more is a mistake in whoever adds them one by one.
pub const FAULTS_MAX: usize = 16;

/// Largest factor on a service time. A request that takes this many times longer has hung for all that anybody can
/// tell.
const FACTOR_MAX: f64 = 1e4;

/// What is wrong with an endpoint. As JSON or YAML all parts stand in one map:
/// `{"kind":"slow","factor":10,"path_prefix":"/e","after":"1s","for":"1s","every":"2s"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "written::Written", into = "written::Written")]
pub struct Fault {
    /// What it is.
    pub kind: Kind,
    /// Which requests suffer.
    pub only: Only,
    /// When it is there.
    pub times: Times,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `slow`: service times are `factor` times as long.
    Slow {
        /// 0 to 10000; 1 changes nothing.
        factor: f64,
    },
    /// `ramp`: service times grow evenly from 1 to `to` times within `over`, and stay there.
    Ramp {
        /// Factor at the end, 0 to 10000.
        to: f64,
        /// Length of the ramp.
        over: Duration,
    },
    /// `leak`: service times grow by `growth` per second, compounding, until the process dies of memory. It is gone for
    /// `restarts_after`, with whatever it was working on, and then it is new and leaks again.
    Leak {
        /// Part per second, up to 10: 0.02 is 2 %/s.
        growth: f64,
        /// How long the memory lasts.
        dies_after: Duration,
        /// How long the restart takes.
        restarts_after: Duration,
    },
    /// `errors`: requests are answered with an error, after the usual service time.
    Errors {
        /// Status of the answer, 400 to 599.
        status: u16,
    },
    /// `resets`: requests are read and worked on, and the connection is reset in place of an answer.
    Resets,
    /// `garbage`: the answer is not HTTP.
    Garbage,
    /// `early_close`: the connection ends in the middle of the body.
    EarlyClose {
        /// Part of the body that is sent, 0 to less than 1.
        part: f64,
    },
    /// `slow_body`: the head of the answer comes at once and its body drips.
    SlowBody {
        /// Bytes of the body per second.
        bytes_per_s: u64,
    },
    /// `hang`: requests are read but never answered; where no request is excepted, neither is what was under way. When the
    /// fault goes, hung connections are closed, as by the restart that usually heals such a process.
    Hang,
    /// `pause`: the process stands still, as for a garbage collection. What it had begun goes on afterwards.
    Pause,
    /// `capacity`: of the requests that the endpoint can work on at once, it can work on this part only.
    Capacity {
        /// Part of its cores that is left, 0 to 1.
        left: f64,
    },
    /// `refuse`: the listener is closed and so are open connections; the port is free until the fault goes.
    Refuse {
        /// Requests under way are lost too (the process was killed). Otherwise they are still answered (it was told
        /// to stop), because no proxy could save a POST that was under way.
        cut: bool,
    },
}

/// Which requests suffer from a fault; all of them by default.
#[derive(Clone, Debug, PartialEq)]
pub struct Only {
    /// Those whose path starts with this.
    pub path_prefix: Option<String>,
    /// Those with more bytes than this in their own body or in that of the answer.
    pub bodies_above: Option<u64>,
    /// Of these, a part, drawn for each request: 0 to 1.
    pub share: f64,
}

/// What a fault may ask about a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Path and query.
    pub path: &'a [u8],
    /// Bytes of its own body or of that of its answer, whichever is larger.
    pub body_bytes: u64,
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Treatment {
    /// Its service time is multiplied by this.
    pub factor: f64,
    /// Status of its answer.
    pub status: u16,
    /// How it gets it.
    pub manner: Manner,
}

/// How an answer is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Manner {
    /// As it should be.
    Whole,
    /// So many bytes of its body per second.
    Drip(u64),
    /// The head, this part of the body, and the end of the connection.
    Early(f64),
    /// Bytes that mean nothing, and the end of the connection.
    Garbage,
    /// Not at all: the connection is reset.
    Reset,
    /// Not at all, for as long as the endpoint hangs.
    Never,
}

/// How the whole process is at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition {
    /// Nobody listens. `cut`: what was under way is lost.
    pub refuses: Option<Refusal>,
    /// It stands still.
    pub paused: bool,
    /// Some requests hang.
    pub hangs: bool,
    /// All requests hang, those under way too.
    pub hangs_all: bool,
    /// Part of its cores that is left.
    pub left: f64,
}

/// How an endpoint goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// With what it was working on.
    pub cut: bool,
}

impl Default for Only {
    fn default() -> Self {
        Self {
            path_prefix: None,
            bodies_above: None,
            share: 1.0,
        }
    }
}

impl Only {
    fn concerns(&self, asked: Asked<'_>, rng: &mut impl Rng) -> bool {
        let prefix = self.path_prefix.as_ref();
        prefix.is_none_or(|prefix| asked.path.starts_with(prefix.as_bytes()))
            && self.bodies_above.is_none_or(|bytes| asked.body_bytes > bytes)
            && (self.share >= 1.0 || rng.random::<f64>() < self.share)
    }

    fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

impl From<Kind> for Fault {
    /// Of all requests, from when it is set until it is healed.
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            only: Only::default(),
            times: Times::default(),
        }
    }
}

impl Fault {
    /// All requests take `factor` times as long.
    pub fn slow(factor: f64) -> Self {
        Kind::Slow { factor }.into()
    }

    /// A `share` of the requests fails with status 500.
    pub fn errors(share: f64) -> Self {
        let mut fault = Self::from(Kind::Errors { status: 500 });
        fault.only.share = share;
        fault
    }

    /// Nobody listens; `cut`: what was under way is lost.
    pub fn refuse(cut: bool) -> Self {
        Kind::Refuse { cut }.into()
    }

    /// The same for requests whose path starts with `prefix`.
    pub fn on_path(mut self, prefix: &str) -> Self {
        self.only.path_prefix = Some(prefix.to_owned());
        self
    }

    /// How long ago it came, if it is there when `age` has passed since it was set.
    pub fn active(&self, age: Duration) -> Option<Duration> {
        self.times.active(age)
    }

    /// The first age after `age` at which the process's [`Condition`] may change with it.
    pub fn next_edge(&self, age: Duration) -> Option<Duration> {
        let of_times = self.times.next_edge(age);
        let (Kind::Leak { .. }, Some(since)) = (self.kind, self.active(age)) else {
            return of_times;
        };
        let of_life = age.saturating_add(self.life_left(since));
        Some(of_times.map_or(of_life, |edge| edge.min(of_life)))
    }

    /// How long a process that leaks since `since` stays as it is: until its death, or until it is back.
    fn life_left(&self, since: Duration) -> Duration {
        let Kind::Leak {
            dies_after,
            restarts_after,
            ..
        } = self.kind
        else {
            return Duration::MAX;
        };
        let life = times::remainder(since, dies_after + restarts_after);
        let edge = if life < dies_after {
            dies_after
        } else {
            dies_after + restarts_after
        };
        edge - life
    }

    /// Adds what it does to a request, `since` it came.
    fn treat(&self, since: Duration, treatment: &mut Treatment) {
        match self.kind {
            Kind::Slow { factor } => treatment.factor *= factor,
            Kind::Ramp { to, over } => {
                let part = (since.as_secs_f64() / over.as_secs_f64()).min(1.0);
                treatment.factor *= 1.0 + (to - 1.0) * part;
            }
            Kind::Leak {
                growth,
                dies_after,
                restarts_after,
            } => {
                let life = times::remainder(since, dies_after + restarts_after);
                treatment.factor *= (1.0 + growth).powf(life.as_secs_f64()).min(FACTOR_MAX);
            }
            Kind::Errors { status } => treatment.status = status,
            Kind::Resets => treatment.manner = Manner::Reset,
            Kind::Garbage => treatment.manner = Manner::Garbage,
            Kind::EarlyClose { part } => treatment.manner = Manner::Early(part),
            Kind::SlowBody { bytes_per_s } => treatment.manner = Manner::Drip(bytes_per_s),
            Kind::Hang => treatment.manner = Manner::Never,
            Kind::Pause | Kind::Capacity { .. } | Kind::Refuse { .. } => {}
        }
    }
}

/// Decides about one request that meets these faults, each with its age.
pub fn treat<'a>(
    faults: impl IntoIterator<Item = (&'a Fault, Duration)>,
    asked: Asked<'_>,
    rng: &mut impl Rng,
) -> Treatment {
    let mut treatment = Treatment {
        factor: 1.0,
        status: 200,
        manner: Manner::Whole,
    };
    for (fault, age) in faults {
        if let Some(since) = fault.active(age)
            && fault.only.concerns(asked, rng)
        {
            fault.treat(since, &mut treatment);
        }
    }
    treatment.factor = treatment.factor.min(FACTOR_MAX);
    treatment
}

/// How a process with these faults is, each with its age.
pub fn condition<'a>(faults: impl IntoIterator<Item = (&'a Fault, Duration)>) -> Condition {
    let mut condition = Condition {
        refuses: None,
        paused: false,
        hangs: false,
        hangs_all: false,
        left: 1.0,
    };
    for (fault, age) in faults {
        let Some(since) = fault.active(age) else { continue };
        let mut refuse = |cut| {
            let before = condition.refuses.is_some_and(|refusal| refusal.cut);
            condition.refuses = Some(Refusal { cut: cut || before });
        };
        match fault.kind {
            Kind::Refuse { cut } => refuse(cut),
            Kind::Leak {
                dies_after,
                restarts_after,
                ..
            } if times::remainder(since, dies_after + restarts_after) >= dies_after => refuse(true),
            Kind::Pause => condition.paused = true,
            Kind::Hang => {
                condition.hangs = true;
                condition.hangs_all |= fault.only.is_everything();
            }
            Kind::Capacity { left } => condition.left *= left,
            _ => {}
        }
    }
    condition
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn treated(faults: &[Fault], path: &str, body_bytes: u64, age: Duration) -> Treatment {
        let asked = Asked {
            path: path.as_bytes(),
            body_bytes,
        };
        let mut rng = StdRng::seed_from_u64(1);
        treat(faults.iter().map(|fault| (fault, age)), asked, &mut rng)
    }

    fn factor(fault: &Fault, path: &str, age: Duration) -> f64 {
        treated(std::slice::from_ref(fault), path, 0, age).factor
    }

    #[test]
    fn a_slow_path_leaves_the_others_alone() {
        let fault = Fault::slow(20.0).on_path("/e");
        assert!((factor(&fault, "/e/1", s(0)) - 20.0).abs() < 1e-9);
        assert!((factor(&fault, "/a/1", s(0)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_fault_of_large_bodies_leaves_small_ones_alone() {
        let mut fault = Fault::errors(1.0);
        fault.only.bodies_above = Some(65_536);
        let status = |bytes| treated(std::slice::from_ref(&fault), "/", bytes, s(0)).status;
        assert_eq!([status(0), status(65_536), status(65_537)], [200, 200, 500]);
    }

    #[test]
    fn a_ramp_grows_evenly_and_then_stays() {
        let fault = Fault::from(Kind::Ramp {
            to: 21.0,
            over: s(10),
        });
        for (age, expected) in [(0, 1.0), (5, 11.0), (10, 21.0), (60, 21.0)] {
            assert!(
                (factor(&fault, "/", s(age)) - expected).abs() < 1e-9,
                "after {age} s"
            );
        }
    }

    #[test]
    fn a_leak_grows_until_it_dies_and_starts_anew_after_the_restart() {
        let fault = Fault::from(Kind::Leak {
            growth: 0.02,
            dies_after: s(60),
            restarts_after: s(2),
        });
        assert!((factor(&fault, "/", s(1)) - 1.02).abs() < 1e-9);
        // 1.02^55.5 = 3: the moment from which on users would see it.
        assert!((factor(&fault, "/", Duration::from_millis(55_480)) - 3.0).abs() < 1e-2);
        let mut age = Duration::ZERO;
        let mut edges = Vec::new();
        for _ in 0..4 {
            age = fault.next_edge(age).unwrap();
            edges.push((age.as_secs(), condition([(&fault, age)]).refuses));
        }
        let dead = Some(Refusal { cut: true });
        assert_eq!(edges, [(60, dead), (62, None), (122, dead), (124, None)]);
        assert!((factor(&fault, "/", s(63)) - 1.02).abs() < 1e-9);
    }

    #[test]
    fn errors_come_with_their_share() {
        let mut rng = StdRng::seed_from_u64(1);
        let fault = Fault::errors(0.05);
        let asked = Asked {
            path: b"/",
            body_bytes: 0,
        };
        let failed = (0..100_000)
            .filter(|_| treat([(&fault, s(0))], asked, &mut rng).status == 500)
            .count();
        assert!((4_700..5_300).contains(&failed), "{failed}");
    }

    #[test]
    fn several_faults_multiply_and_of_two_manners_the_last_wins() {
        let faults = [
            Fault::slow(2.0),
            Fault::from(Kind::Garbage),
            Fault::slow(3.0),
            Fault::errors(1.0),
            Fault::from(Kind::EarlyClose { part: 0.5 }),
        ];
        let treatment = treated(&faults, "/", 0, s(0));
        assert!((treatment.factor - 6.0).abs() < 1e-9);
        assert_eq!((treatment.status, treatment.manner), (500, Manner::Early(0.5)));
    }

    #[test]
    fn the_process_is_as_all_its_faults_together_make_it() {
        let half = Fault::from(Kind::Capacity { left: 0.5 });
        let mut hang = Fault::from(Kind::Hang).on_path("/e");
        let at_once = |faults: &[Fault]| condition(faults.iter().map(|fault| (fault, s(0))));
        let both = at_once(&[
            half.clone(),
            half,
            hang.clone(),
            Fault::refuse(true),
            Fault::refuse(false),
        ]);
        assert!((both.left - 0.25).abs() < 1e-9);
        assert_eq!(both.refuses, Some(Refusal { cut: true }));
        assert!(both.hangs && !both.hangs_all && !both.paused);
        hang.only = Only::default();
        assert!(at_once(&[hang]).hangs_all);
    }
}
