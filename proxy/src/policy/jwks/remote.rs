//! Keys from a URL: fetched beside the workers, kept, and fetched again in time.
//!
//! The first fetch begins with the configuration, before anybody asks. After that a request that finds the keys old
//! begins the next one and does not wait for it; only where there are none, where they are *late* because nobody has
//! asked for long, or where a token names a key that is not among them, it waits, once. What was fetched last holds until
//! there is something better: an issuer that is down for an hour locks nobody out. How long it is good the issuer says
//! (`Cache-Control: max-age`), within bounds; after a failure it is asked again after one second, two, four, up to five
//! minutes, or up to ten seconds where there are no keys at all.
//!
//! A token that names an unknown key may be a stranger's. So that many of them are no way to have an issuer flooded, one of
//! them in [`UNKNOWN_PAUSE`] has the keys fetched, and the others are refused as they are.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};
use foreshade_engine::moment::Moment;
use tokio::sync::oneshot;

use super::Keys;
use super::fetch::{FetchError, Fetched, Place, beside, fetch};

/// Keys are not fetched more often than this, whatever the issuer says.
const GOOD_MIN: Duration = Duration::from_secs(60);

/// Nor less often: a key that was withdrawn must not be good for ever.
const GOOD_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long they are good where the issuer says nothing.
const GOOD_USUALLY: Duration = Duration::from_secs(600);

/// After a first failure; each further one doubles it.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);

/// At most where there are no keys: nobody is let in until the issuer is back.
const RETRY_MAX_MISSING: Duration = Duration::from_secs(10);

/// Old for so long, keys are late: nobody has asked meanwhile, and whoever asks now waits for new ones.
const LATE: Duration = Duration::from_secs(60);

/// Between two fetches for the sake of unknown keys.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(10);

/// Requests that may wait for keys, of each set: those of a first second of heavy traffic.
const WAITERS_MAX: usize = 1024;

/// Why keys are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A request came, and has keys to go by.
    Routine,
    /// It has none.
    Missing,
    /// Its token names a key that is not among them.
    Unknown,
}

/// Keys of an issuer.
#[derive(Debug)]
pub struct Remote {
    place: Place,
    content: ArcSwapOption<Keys>,
    /// Microseconds on the proxy's clock when they are to be fetched again.
    due: AtomicU64,
    state: Mutex<State>,
    /// Fetches that brought keys, and that did not.
    counts: [AtomicU64; 2],
}

#[derive(Debug, Default)]
struct State {
    fetching: bool,
    failures: u32,
    unknown: Option<Moment>,
    /// Keys were fetched then and are good for so long, and nobody has told the time yet.
    undated: Option<(Instant, Duration)>,
    waiters: Vec<oneshot::Sender<()>>,
}

impl Remote {
    /// Not fetched yet.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            content: ArcSwapOption::empty(),
            due: AtomicU64::new(0),
            state: Mutex::default(),
            counts: Default::default(),
        }
    }

    /// Where they are fetched.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What was fetched last. Borrowed: a count of who holds it would be written by all workers with each request.
    pub fn content(&self) -> Guard<Option<Arc<Keys>>> {
        self.content.load()
    }

    /// Fetches that brought keys, and that did not.
    pub fn counts(&self) -> [u64; 2] {
        self.counts.each_ref().map(|count| count.load(Relaxed))
    }

    /// Has the keys fetched, before anybody asks, if there are none.
    pub fn begin(self: &Arc<Self>) {
        let mut state = self.state();
        if !state.fetching && self.content.load().is_none() {
            state.fetching = self.fetch_beside(None);
        }
    }

    /// Has the keys fetched, if it is time. Where that is worth waiting for, told when it is done.
    pub fn look(self: &Arc<Self>, now: Moment, why: Why) -> Option<oneshot::Receiver<()>> {
        let due = Moment::from_micros(self.due.load(Relaxed));
        if why == Why::Routine && now < due {
            return None;
        }
        let mut state = self.state();
        let due = match state.undated.take() {
            Some((fetched, good)) => self.dated(now, fetched.elapsed(), good),
            None => due,
        };
        if why == Why::Routine && now < due {
            return None;
        }
        if !state.fetching {
            let is_time = match why {
                Why::Unknown => state.unknown.is_none_or(|at| now.since(at) >= UNKNOWN_PAUSE),
                Why::Routine | Why::Missing => now >= due,
            };
            if !is_time {
                return None;
            }
            if why == Why::Unknown {
                state.unknown = Some(now);
            }
            state.fetching = self.fetch_beside(Some(now));
        }
        let is_late = self.content.load().is_none() || now.since(due) >= LATE;
        if !state.fetching || (why == Why::Routine && !is_late) || !state.has_room(why) {
            return None;
        }
        let (tell, told) = oneshot::channel();
        state.waiters.push(tell);
        Some(told)
    }

    /// Keys that were fetched so long ago are due then.
    fn dated(&self, now: Moment, age: Duration, good: Duration) -> Moment {
        let age_us = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        let due_us = (now + good).as_micros().saturating_sub(age_us);
        self.due.store(due_us, Relaxed);
        Moment::from_micros(due_us)
    }

    /// Begins a fetch; nobody has told the time where `now` is `None`. False where it cannot be.
    fn fetch_beside(self: &Arc<Self>, now: Option<Moment>) -> bool {
        let (remote, began) = (self.clone(), Instant::now());
        beside(async move {
            // Not before it runs: one that is not taken is dropped by who holds the lock.
            let mut under_way = UnderWay {
                remote,
                now,
                began,
                is_done: false,
            };
            let fetched = fetch(&under_way.remote.place).await;
            under_way.end(fetched);
        })
    }

    fn fetched(&self, fetched: Fetched, now: Option<Moment>) {
        let url = &self.place.url;
        let [good, bad] = &self.counts;
        let mut state = self.state();
        let pause = match fetched {
            Ok((keys, max_age)) => {
                tracing::info!(%url, "keys of an issuer are fetched");
                self.content.store(Some(Arc::new(keys)));
                good.fetch_add(1, Relaxed);
                state.failures = 0;
                good_for(max_age)
            }
            Err(error) => {
                let (error, kept) = (&error as &dyn Error, self.content.load().is_some());
                tracing::error!(%url, error, kept, "keys cannot be fetched: what was fetched before holds");
                bad.fetch_add(1, Relaxed);
                state.failures = state.failures.saturating_add(1);
                retry_after(state.failures, kept)
            }
        };
        match now {
            Some(now) => self.due.store((now + pause).as_micros(), Relaxed),
            // Whoever comes first tells what it is, and may try again at once what has failed.
            None => state.undated = (state.failures == 0).then(|| (Instant::now(), pause)),
        }
        state.fetching = false;
        for waiter in state.waiters.drain(..) {
            // Nobody may wait any more.
            let _ = waiter.send(());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether one more may wait. Anybody can name an unknown key: such take no more than half of the places.
    fn has_room(&mut self, why: Why) -> bool {
        let most = match why {
            Why::Unknown => WAITERS_MAX / 2,
            Why::Routine | Why::Missing => WAITERS_MAX,
        };
        if self.waiters.len() >= most {
            // Those whose client has gone.
            self.waiters.retain(|waiter| !waiter.is_closed());
        }
        self.waiters.len() < most
    }
}

/// A fetch. One that breaks off has failed, or nobody would begin another one.
struct UnderWay {
    remote: Arc<Remote>,
    now: Option<Moment>,
    began: Instant,
    is_done: bool,
}

impl UnderWay {
    fn end(&mut self, fetched: Fetched) {
        self.is_done = true;
        let now = self.now.map(|now| now + self.began.elapsed());
        self.remote.fetched(fetched, now);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.is_done {
            self.end(Err(FetchError::Broken));
        }
    }
}

/// How long keys are good.
fn good_for(max_age: Option<Duration>) -> Duration {
    max_age.map_or(GOOD_USUALLY, |age| age.clamp(GOOD_MIN, GOOD_MAX))
}

/// After so many failures in a row, 1 or more; `kept` where there are keys that hold meanwhile.
fn retry_after(failures: u32, kept: bool) -> Duration {
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
    let most = if kept { RETRY_MAX } else { RETRY_MAX_MISSING };
    RETRY_MIN.saturating_mul(factor).min(most)
}

#[cfg(test)]
mod tests {
    use super::super::KeysError;
    use super::*;

    const KEYS: &[u8] =
        br#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    fn at(seconds: u64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    /// One that is being fetched; the test ends that.
    fn remote() -> Arc<Remote> {
        let place = Place {
            url: "http://127.0.0.1:1/".parse().unwrap(),
            tls: None,
        };
        let remote = Arc::new(Remote::new(place));
        remote.state().fetching = true;
        remote
    }

    fn good(max_age_s: Option<u64>) -> Fetched {
        Ok((Keys::parse(KEYS).unwrap(), max_age_s.map(Duration::from_secs)))
    }

    fn bad() -> Fetched {
        Err(FetchError::Keys(KeysError::Count))
    }

    fn due_s(remote: &Remote) -> u64 {
        remote.due.load(Relaxed) / 1_000_000
    }

    #[test]
    fn what_the_issuer_says_counts_within_bounds() {
        let day = 24 * 3600;
        for (said, seconds) in [
            (None, 600),
            (Some(0), 60),
            (Some(3600), 3600),
            (Some(1 << 60), day),
        ] {
            let remote = remote();
            remote.fetched(good(said), Some(at(5)));
            assert_eq!(due_s(&remote), 5 + seconds, "{said:?}");
        }
    }

    #[test]
    fn an_issuer_that_fails_is_left_alone_for_longer_each_time_and_what_was_good_holds() {
        let remote = remote();
        remote.fetched(good(None), Some(at(0)));
        let mut pauses = Vec::new();
        for _ in 0..12 {
            remote.fetched(bad(), Some(at(1000)));
            pauses.push(due_s(&remote) - 1000);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert!(remote.content().is_some());
        remote.fetched(good(None), Some(at(1000)));
        remote.fetched(bad(), Some(at(1000)));
        assert_eq!(due_s(&remote), 1001, "from the beginning");
        assert_eq!(
            retry_after(12, false),
            RETRY_MAX_MISSING,
            "nobody is let in meanwhile"
        );
        assert_eq!(remote.counts(), [2, 13]);
    }

    #[test]
    fn who_needs_keys_waits_for_them_and_who_has_some_does_not() {
        let remote = remote();
        let mut first = remote.look(at(0), Why::Missing).unwrap();
        let mut second = remote.look(at(0), Why::Routine).unwrap();
        assert!(first.try_recv().is_err());
        remote.fetched(good(None), Some(at(1)));
        assert!(first.try_recv().is_ok() && second.try_recv().is_ok());
        assert!(remote.look(at(2), Why::Routine).is_none());
        remote.state().fetching = true;
        assert!(
            remote.look(at(602), Why::Routine).is_none(),
            "just old: by the next one"
        );
        assert!(remote.look(at(700), Why::Routine).is_some(), "late");
        assert!(remote.look(at(602), Why::Unknown).is_some());
    }

    #[test]
    fn strangers_with_unknown_keys_are_no_way_to_flood_an_issuer() {
        let remote = remote();
        remote.fetched(good(None), Some(at(0)));
        let begins = |seconds| {
            remote.state().fetching = false;
            // Where they are fetched it is told when that is done.
            remote.look(at(seconds), Why::Unknown).is_some()
        };
        assert_eq!([1, 2, 10, 11, 12].map(begins), [true, false, false, true, false]);
    }

    #[test]
    fn no_more_may_wait_than_there_is_room_for() {
        let remote = remote();
        let looks = (0..=WAITERS_MAX).map(|_| remote.look(at(0), Why::Missing));
        assert_eq!(looks.collect::<Vec<_>>().iter().flatten().count(), WAITERS_MAX);
    }

    #[test]
    fn strangers_leave_half_of_the_places_and_who_has_gone_leaves_his() {
        let remote = remote();
        let looks: Vec<_> = (0..WAITERS_MAX)
            .filter_map(|_| remote.look(at(0), Why::Unknown))
            .collect();
        assert_eq!(looks.len(), WAITERS_MAX / 2);
        let kept = remote.look(at(0), Why::Missing);
        assert!(kept.is_some());
        drop(looks);
        assert!(remote.look(at(0), Why::Unknown).is_some());
    }

    #[test]
    fn keys_that_were_fetched_before_anybody_told_the_time_are_as_good_as_others() {
        let remote = remote();
        remote.fetched(good(None), None);
        let late = at(86_400);
        assert!(remote.look(late, Why::Routine).is_none(), "nobody waits");
        assert!(!remote.state().fetching, "and nothing is fetched");
        assert!((86_400 + 590..=86_400 + 600).contains(&due_s(&remote)));
    }

    #[test]
    fn a_fetch_that_breaks_off_has_failed_and_holds_up_nobody() {
        let remote = remote();
        let mut waits = remote.look(at(0), Why::Missing).unwrap();
        drop(UnderWay {
            remote: remote.clone(),
            now: Some(at(0)),
            began: Instant::now(),
            is_done: false,
        });
        assert!(waits.try_recv().is_ok());
        assert!(!remote.state().fetching);
        assert_eq!(remote.counts(), [0, 1]);
    }
}
