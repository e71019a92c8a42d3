//! Whether a client who is waited for moves fast enough: against bodies that trickle in, and answers that trickle out.
//!
//! Only the time that the client keeps us waiting counts: an upload that pauses because the endpoint is slow is not the
//! client's fault. That time is summed up; when it has reached the window, the bytes that moved meanwhile are held
//! against the floor, and a new window begins. A limit per read would not do: one byte just before its end renews it for
//! ever. The timer exists only once there was something to wait for, and is armed once per window, not per read.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// What is asked of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    /// Waiting time after which his bytes are counted.
    pub(crate) window: Duration,
    /// How many there have to be.
    pub(crate) bytes: u64,
}

impl Floor {
    /// A floor of `rate` bytes per second over `window`; one byte at least.
    pub(crate) fn new(window: Duration, rate: u64) -> Self {
        let bytes = rate.saturating_mul(u64::try_from(window.as_millis()).unwrap_or(u64::MAX)) / 1000;
        Self {
            window,
            bytes: bytes.max(1),
        }
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Boxed, since hardly any connection ever has one.
    window: Option<Box<Window>>,
}

#[derive(Debug)]
struct Window {
    timer: Pin<Box<Sleep>>,
    /// Bytes that had moved when it began.
    base: u64,
    /// Waited in it, without what began at `since`.
    waited: Duration,
    since: Option<Instant>,
}

impl Pace {
    /// Bytes have moved: the wait is over.
    pub(crate) fn moved(&mut self) {
        if let Some(window) = &mut self.window
            && let Some(since) = window.since.take()
        {
            window.waited += since.elapsed();
        }
    }

    /// Nothing moves: ready once that has been so for too long. `count` is how many bytes have moved in all.
    pub(crate) fn poll_too_slow(
        &mut self,
        cx: &mut Context<'_>,
        floor: &Floor,
        count: impl Fn() -> u64,
    ) -> Poll<()> {
        let now = Instant::now();
        let window = self.window.get_or_insert_with(|| {
            Box::new(Window {
                timer: Box::pin(sleep_until(now + floor.window)),
                base: count(),
                waited: Duration::ZERO,
                since: None,
            })
        });
        let since = window.since.get_or_insert(now);
        loop {
            ready!(window.timer.as_mut().poll(cx));
            let now = Instant::now();
            // More than nothing where part of the time somebody else was waited for.
            let mut left = floor
                .window
                .saturating_sub(window.waited + now.saturating_duration_since(*since));
            if left.is_zero() {
                let counted = count();
                if counted.saturating_sub(window.base) < floor.bytes {
                    return Poll::Ready(());
                }
                (window.base, window.waited, *since, left) = (counted, Duration::ZERO, now, floor.window);
            }
            window.timer.as_mut().reset(now + left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::poll_fn;

    const FLOOR: Floor = Floor {
        window: Duration::from_secs(10),
        bytes: 100,
    };

    /// Waits until `pace` gives up or `time` is over. True where it gave up.
    async fn waits(pace: &mut Pace, time: Duration, moved: &Cell<u64>) -> bool {
        let gave_up = poll_fn(|cx| pace.poll_too_slow(cx, &FLOOR, || moved.get()));
        tokio::time::timeout(time, gave_up).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_nothing_is_given_up_after_one_window_and_not_before() {
        let (mut pace, moved) = (Pace::default(), Cell::new(0));
        assert!(!waits(&mut pace, Duration::from_millis(9_900), &moved).await);
        assert!(waits(&mut pace, Duration::from_millis(200), &moved).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_a_byte_now_and_then_is_given_up_too() {
        let (mut pace, moved) = (Pace::default(), Cell::new(0));
        let mut rounds = 0;
        while !waits(&mut pace, Duration::from_millis(900), &moved).await {
            moved.set(moved.get() + 1);
            pace.moved();
            rounds += 1;
        }
        assert_eq!(rounds, 11, "eleven times 0.9 s are within ten seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_just_fast_enough_is_never_given_up() {
        let (mut pace, moved) = (Pace::default(), Cell::new(0));
        for _ in 0..1_000 {
            assert!(!waits(&mut pace, Duration::from_millis(900), &moved).await);
            moved.set(moved.get() + 12);
            pace.moved();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waited_for_him_is_not_his() {
        let (mut pace, moved) = (Pace::default(), Cell::new(0));
        for _ in 0..9 {
            assert!(!waits(&mut pace, Duration::from_secs(1), &moved).await);
            moved.set(moved.get() + 1);
            pace.moved();
            tokio::time::advance(Duration::from_secs(100)).await;
        }
        assert!(!waits(&mut pace, Duration::from_millis(900), &moved).await);
        assert!(waits(&mut pace, Duration::from_millis(200), &moved).await);
    }
}
