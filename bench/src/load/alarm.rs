//! Sleeps to the microsecond within tokio, whose own timer counts milliseconds.
//!
//! A timer of the kernel (timerfd) that the reactor watches like any socket: one thread can wait for answers and for the
//! next intended start at once, and no second thread has to hand requests over.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Shortest sleep: zero would mean never.
const SLEEP_MIN: Duration = Duration::from_micros(1);

/// One alarm clock; the next sleep begins after the last.
pub(crate) struct Alarm(AsyncFd<Timer>);

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Alarm {
    /// Call it within a runtime.
    #[expect(
        deprecated,
        reason = "its successor may not be called here; the descriptor is owned by what is watched, so it stays open"
    )]
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = Timer(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
        Ok(Self(AsyncFd::with_interest(timer, Interest::READABLE)?))
    }

    /// Sleeps for `length`.
    pub(crate) async fn sleep(&self, length: Duration) -> io::Result<()> {
        let timer = &self.0.get_ref().0;
        let expiry = Expiration::OneShot(TimeSpec::from(length.max(SLEEP_MIN)));
        timer.set(expiry, TimerSetTimeFlags::empty())?;
        // Setting the timer anew takes the last expiry back, so it need not be read.
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn an_alarm_never_rings_early_and_rings_again() {
        let alarm = Alarm::new().unwrap();
        for micros in [0, 300, 1, 2_500] {
            let started = Instant::now();
            alarm.sleep(Duration::from_micros(micros)).await.unwrap();
            assert!(started.elapsed() >= Duration::from_micros(micros));
        }
    }
}
