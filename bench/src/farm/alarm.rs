//! Waits that end on the microsecond: one timer of the kernel for all service times of a farm.
//!
//! tokio's own timer rounds up to milliseconds, which turns an endpoint of 300 us into one of a millisecond and more,
//! and lets the requests of a busy endpoint end in bursts, tick by tick. One `timerfd`, armed for the earliest of all
//! deadlines, costs a system call where a new deadline is earlier than all others, and is exact. See
//! timerfd_create(2).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Wakes tasks of one thread at their deadlines, while [`Alarm::run`] is polled.
pub(crate) struct Alarm {
    timer: TimerFd,
    /// The same timer, for waiting until it fires.
    fires: AsyncFd<OwnedFd>,
    /// By deadline, and by number where two have the same.
    sleepers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    /// For when the timer is set, if it is.
    armed: Cell<Option<Instant>>,
    next: Cell<u64>,
}

/// Takes a sleeper that wakes for another reason off the list.
struct Bed<'a> {
    alarm: &'a Alarm,
    key: (Instant, u64),
}

impl Alarm {
    /// Call it within a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types that may close their descriptor behind its back; this one cannot"
        )]
        let fires = AsyncFd::with_interest(timer.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        Ok(Self {
            timer,
            fires,
            sleepers: RefCell::default(),
            armed: Cell::new(None),
            next: Cell::new(0),
        })
    }

    /// Wakes whoever is due, for as long as it is polled. Ends only with an error of the kernel.
    pub(crate) async fn run(&self) -> io::Error {
        let mut expirations = [0; 8];
        loop {
            let fired = self.fires.readable().await.and_then(|mut ready| {
                // Somebody may have set the timer anew since it fired: then there is nothing to read, and nothing to
                // do.
                match ready.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), &mut expirations)?)) {
                    Ok(read) => read.map(drop),
                    Err(_would_block) => Ok(()),
                }
            });
            if let Err(error) = fired {
                return error;
            }
            self.wake_due(Instant::now());
        }
    }

    /// Waits until `deadline`. Safe to cancel.
    pub(crate) async fn sleep_until(&self, deadline: Instant) {
        let number = self.next.replace(self.next.get().wrapping_add(1));
        let bed = Bed {
            alarm: self,
            key: (deadline, number),
        };
        poll_fn(|context| {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            let mut sleepers = self.sleepers.borrow_mut();
            sleepers.insert(bed.key, context.waker().clone());
            drop(sleepers);
            self.arm(deadline);
            Poll::Pending
        })
        .await;
    }

    /// Sets the timer, unless it fires early enough already.
    fn arm(&self, deadline: Instant) {
        if self.armed.get().is_some_and(|armed| armed <= deadline) {
            return;
        }
        // Zero would switch it off.
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_nanos(1));
        let expiration = Expiration::OneShot(TimeSpec::from_duration(left));
        // The timer and the time are valid, which is all that could be wrong; were it not set, the next one would
        // wake all.
        if self.timer.set(expiration, TimerSetTimeFlags::empty()).is_ok() {
            self.armed.set(Some(deadline));
        }
    }

    fn wake_due(&self, now: Instant) {
        self.armed.set(None);
        let mut sleepers = self.sleepers.borrow_mut();
        let later = sleepers.split_off(&(now + Duration::from_nanos(1), 0));
        let due = std::mem::replace(&mut *sleepers, later);
        let next = sleepers.first_key_value().map(|((deadline, _), _)| *deadline);
        drop(sleepers);
        due.into_values().for_each(Waker::wake);
        if let Some(next) = next {
            self.arm(next);
        }
    }
}

impl Drop for Bed<'_> {
    fn drop(&mut self) {
        self.alarm.sleepers.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `work` beside the alarm.
    fn beside<T>(work: impl AsyncFnOnce(&Alarm) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let alarm = Alarm::new().unwrap();
            tokio::select! {
                error = alarm.run() => panic!("{error}"),
                value = work(&alarm) => value,
            }
        })
    }

    #[test]
    fn sleepers_wake_in_the_order_of_their_deadlines_and_never_early() {
        let woken = beside(async |alarm| {
            let start = Instant::now();
            let woken = RefCell::new(Vec::new());
            let sleep = async |us: u64| {
                let deadline = start + Duration::from_micros(us);
                alarm.sleep_until(deadline).await;
                assert!(Instant::now() >= deadline);
                woken.borrow_mut().push(us);
            };
            tokio::join!(sleep(3_000), sleep(200), sleep(9_000), sleep(2_000), sleep(0));
            woken.into_inner()
        });
        assert_eq!(woken, [0, 200, 2_000, 3_000, 9_000]);
    }

    #[test]
    fn who_is_woken_otherwise_leaves_nothing_behind() {
        beside(async |alarm| {
            let hour = Instant::now() + Duration::from_secs(3_600);
            tokio::select! {
                () = alarm.sleep_until(hour) => panic!("an hour has passed"),
                () = alarm.sleep_until(Instant::now() + Duration::from_micros(100)) => {}
            }
            assert!(alarm.sleepers.borrow().is_empty());
            // The timer that was set for the hour does not keep an earlier one waiting.
            alarm
                .sleep_until(Instant::now() + Duration::from_micros(100))
                .await;
        });
    }
}
