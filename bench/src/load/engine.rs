//! The one engine of every load: a schedule, lines that carry one request at a time, and what is noted of each.
//!
//! One thread, one single-threaded runtime. A line is a task that lives as long as the load: a request costs no task, no
//! channel and no timer of its own. Whoever is awake takes what is due: a line that has just been answered looks at the
//! schedule itself, and the pacer (see [`Engine::run`]) wakes idle lines only for what nobody has taken. Idle lines are a
//! stack, so that as few connections are in use as the load needs.
//!
//! In an open loop a request that finds every line busy waits in a bounded queue, and its latency counts from its intended
//! start all the while. In a closed loop each line asks for itself, and there is no schedule that it could fall behind.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::load::alarm::Alarm;
use crate::load::line::{Desk, Ended, Line};
use crate::load::mix::{Draw, Draws};
use crate::load::record::{Outcome, Record, micros};
use crate::load::schedule::Schedule;
use crate::load::tally::Tally;
use crate::load::{Closed, LoadOptions, Published, Shared};

/// Requests that wait for a line; beyond this they fail as overrun.
const WAITING_MAX: usize = 65_536;

/// How often what has ended becomes visible to others, and all that need not be to the microsecond is looked after.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(20);

/// Requests that the pacer hands over before lines have a turn,
const BATCH: usize = 32;

/// and lines that it adds. After a stall of the machine hundreds of requests are due at once, while as many answers have
/// arrived unread: whoever opens connections before reading those opens more and more of them, and falls ever further back.
const NEW_LINES: usize = 4;

/// Pause of a line of a closed loop that finds no connection: a target that is down must not become a busy loop.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// A request that is due.
#[derive(Clone, Copy)]
struct Due {
    intended: Duration,
    number: u64,
    draw: Draw,
    /// How late the load got round to it; set when it had to wait for a line, and measured when it leaves otherwise.
    lag: Option<Duration>,
}

/// What is to be asked when.
struct Plan {
    /// `None` in a closed loop, and once the load is stopped.
    schedule: Option<Schedule>,
    draws: Draws,
    number: u64,
}

impl Plan {
    fn next_at(&self) -> Option<Duration> {
        self.schedule.as_ref()?.next_at()
    }

    /// The next request of the schedule, if it is due.
    fn take(&mut self, now: Duration) -> Option<Due> {
        if self.next_at()? > now {
            return None;
        }
        let intended = self.schedule.as_mut()?.next()?;
        Some(self.draw(intended))
    }

    fn draw(&mut self, intended: Duration) -> Due {
        let number = self.number;
        self.number += 1;
        Due {
            intended,
            number,
            draw: self.draws.draw(),
            lag: None,
        }
    }
}

/// Where a line that has nothing to do finds its next request.
#[derive(Default)]
struct Letterbox {
    due: Option<Due>,
    waker: Option<Waker>,
}

pub(super) struct Engine {
    options: LoadOptions,
    shared: Arc<Shared>,
    started: Instant,
    desk: Rc<Desk>,
    plan: RefCell<Plan>,
    waiting: RefCell<VecDeque<Due>>,
    /// By number of the line.
    letterboxes: RefCell<Vec<Letterbox>>,
    /// Numbers of lines with nothing to do.
    idle: RefCell<Vec<usize>>,
    tally: RefCell<Tally>,
    records: RefCell<Vec<Record>>,
    /// Requests under way in an open loop, lines that go on in a closed one.
    in_flight: Cell<usize>,
}

/// What is left when a load has ended.
pub(super) struct Remains {
    pub(super) tally: Tally,
    pub(super) connections_peak: usize,
    pub(super) connections_opened: u64,
    pub(super) unfinished: u64,
}

impl Engine {
    /// Its time begins now.
    pub(super) fn new(options: LoadOptions, shared: Arc<Shared>, desk: Desk) -> Self {
        let schedule = Schedule::new(options.arrivals, options.rate, options.length, options.seed);
        let plan = Plan {
            schedule: options.closed.is_none().then(|| schedule.after(options.warm_up)),
            draws: Draws::new(&options.mix, options.seed),
            number: options.first_number,
        };
        let tally = Tally::new(
            options.mix.paths.len(),
            options.warm_up,
            options.length,
            options.deadline,
        );
        Self {
            desk: Rc::new(desk),
            shared,
            plan: RefCell::new(plan),
            waiting: RefCell::default(),
            letterboxes: RefCell::default(),
            idle: RefCell::default(),
            tally: RefCell::new(tally),
            records: RefCell::default(),
            in_flight: Cell::new(0),
            options,
            started: Instant::now(),
        }
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Paces the load to its end, and looks after what must be done from time to time.
    pub(super) async fn run(self: Rc<Self>) -> io::Result<()> {
        let alarm = Alarm::new()?;
        if let Some(closed) = self.options.closed {
            for number in 0..closed.lines.min(self.desk.lines_max()) {
                self.in_flight.set(self.in_flight.get() + 1);
                tokio::task::spawn_local(Rc::clone(&self).closed_line(number, closed));
            }
        }
        let mut publish_at = Duration::ZERO;
        loop {
            let now = self.started.elapsed();
            if now >= publish_at {
                self.look_after(now);
                publish_at = now + PUBLISH_INTERVAL;
                if self.shared.cut.load(Ordering::Relaxed) {
                    break;
                }
            }
            if self.hand_out(now) {
                tokio::task::yield_now().await;
                continue;
            }
            let next_at = self.plan.borrow().next_at();
            if next_at.is_none() && self.in_flight.get() == 0 && self.waiting.borrow().is_empty() {
                break;
            }
            let wake_at = next_at.map_or(publish_at, |at| at.min(publish_at));
            alarm
                .sleep(wake_at.saturating_sub(self.started.elapsed()))
                .await?;
        }
        self.look_after(self.started.elapsed());
        Ok(())
    }

    pub(super) fn remains(&self) -> Remains {
        Remains {
            tally: self.tally.borrow().clone(),
            connections_peak: self.desk.dialler.peak(),
            connections_opened: self.desk.dialler.opened(),
            unfinished: (self.in_flight.get() + self.waiting.borrow().len()) as u64,
        }
    }

    /// Gives what is due to lines, and says whether more is due still.
    fn hand_out(self: &Rc<Self>, now: Duration) -> bool {
        let lines_max = (self.letterboxes.borrow().len() + NEW_LINES).min(self.desk.lines_max());
        for _ in 0..BATCH {
            if self.letterboxes.borrow().len() == lines_max && lines_max < self.desk.lines_max() {
                break;
            }
            let Some(due) = self.plan.borrow_mut().take(now) else {
                return false;
            };
            self.hand_over(due, now);
        }
        true
    }

    fn hand_over(self: &Rc<Self>, mut due: Due, now: Duration) {
        let (idle, lines) = (self.idle.borrow_mut().pop(), self.letterboxes.borrow().len());
        if let Some(number) = idle {
            if let Some(letterbox) = self.letterboxes.borrow_mut().get_mut(number) {
                letterbox.due = Some(due);
                if let Some(waker) = &letterbox.waker {
                    waker.wake_by_ref();
                }
            }
        } else if lines < self.desk.lines_max() {
            self.letterboxes.borrow_mut().push(Letterbox::default());
            tokio::task::spawn_local(Rc::clone(self).line(lines, due));
        } else {
            due.lag = Some(now.saturating_sub(due.intended));
            let mut waiting = self.waiting.borrow_mut();
            if waiting.len() < WAITING_MAX {
                self.tally.borrow_mut().waited += 1;
                waiting.push_back(due);
            } else {
                self.note(&due, now, Outcome::OVERRUN.into());
            }
            return;
        }
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// A line of an open loop: one request after another, whoever brings them. Ends with the load.
    async fn line(self: Rc<Self>, number: usize, first: Due) {
        let mut line = Line::new(&self.desk, number);
        let mut patience = Patience::new();
        let (mut due, mut now) = (first, self.started.elapsed());
        loop {
            (now, _) = self.ask(&mut line, &mut patience, &mut due, now).await;
            due = match self.next(now) {
                Some(due) => due,
                None => {
                    self.in_flight.set(self.in_flight.get() - 1);
                    let due = self.rest(number, &mut line).await;
                    now = self.started.elapsed();
                    due
                }
            };
        }
    }

    /// What a line does next that has just become free: the oldest that waits, or else what is due by now.
    fn next(&self, now: Duration) -> Option<Due> {
        self.give_up_waiting(now);
        let waiting = self.waiting.borrow_mut().pop_front();
        waiting.or_else(|| self.plan.borrow_mut().take(now))
    }

    /// Who has waited too long for a line has never been at the target: that is the load's own failure.
    fn give_up_waiting(&self, now: Duration) {
        let too_late = |due: &Due| due.intended + self.options.deadline < now;
        let mut waiting = self.waiting.borrow_mut();
        while let Some(due) = waiting.front().copied().filter(too_late) {
            waiting.pop_front();
            self.note(&due, now, Outcome::OVERRUN.into());
        }
    }

    /// Waits for the next request, and watches the idle connection meanwhile.
    async fn rest(&self, number: usize, line: &mut Line) -> Due {
        self.idle.borrow_mut().push(number);
        std::future::poll_fn(|cx| {
            let mut letterboxes = self.letterboxes.borrow_mut();
            if let Some(letterbox) = letterboxes.get_mut(number) {
                if let Some(due) = letterbox.due.take() {
                    return Poll::Ready(due);
                }
                if !letterbox
                    .waker
                    .as_ref()
                    .is_some_and(|waker| waker.will_wake(cx.waker()))
                {
                    letterbox.waker = Some(cx.waker().clone());
                }
            }
            line.poll_idle(cx);
            Poll::Pending
        })
        .await
    }

    /// A line of a closed loop: asks as soon as it is answered and its turn has come.
    async fn closed_line(self: Rc<Self>, number: usize, closed: Closed) {
        let mut line = Line::new(&self.desk, number);
        let mut patience = Patience::new();
        let end = self.options.warm_up + self.options.length;
        let period = closed.period();
        let mut turn = period.mul_f64(number as f64 / closed.lines.max(1) as f64);
        let mut now = self.started.elapsed();
        while turn.max(now) < end && !self.shared.stop.load(Ordering::Relaxed) {
            if now < turn {
                tokio::time::sleep(turn - now).await;
                now = self.started.elapsed();
                continue;
            }
            // One that comes late moves those after it: no crowd follows.
            turn = now + period;
            let mut due = self.plan.borrow_mut().draw(now);
            let outcome;
            (now, outcome) = self.ask(&mut line, &mut patience, &mut due, now).await;
            if outcome == Outcome::CONNECT {
                tokio::time::sleep(RETRY_PAUSE).await;
                now = self.started.elapsed();
            }
        }
        self.in_flight.set(self.in_flight.get() - 1);
    }

    /// Makes one request, and returns when it ended and how.
    async fn ask(
        &self,
        line: &mut Line,
        patience: &mut Patience,
        due: &mut Due,
        now: Duration,
    ) -> (Duration, Outcome) {
        let waited = now.saturating_sub(due.intended);
        due.lag.get_or_insert(waited);
        // Who has spent more of his patience on waiting for a line than on an answer was failed by the load.
        let too_late = match waited * 2 > self.options.deadline {
            true => Outcome::OVERRUN,
            false => Outcome::DEADLINE,
        };
        let until = self.started + due.intended + self.options.deadline;
        let ended = patience
            .within(until, line.exchange(&self.desk, due.draw, due.number))
            .await
            .unwrap_or(too_late.into());
        let now = self.started.elapsed();
        self.note(due, now, ended);
        (now, ended.outcome)
    }

    fn note(&self, due: &Due, now: Duration, ended: Ended) {
        let record = Record {
            intended_us: micros(due.intended),
            latency_us: u32::try_from(now.saturating_sub(due.intended).as_micros()).unwrap_or(u32::MAX),
            outcome: ended.outcome,
            path: due.draw.path,
            post: self.desk.requests.writes(due.draw),
            number: due.number,
        };
        let counter = if ended.outcome.failed() {
            &self.shared.failed
        } else {
            &self.shared.answered
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let lag_us = micros(due.lag.unwrap_or_default());
        self.tally.borrow_mut().note(&record, lag_us, ended.body_bytes);
        if self.options.records {
            self.records.borrow_mut().push(record);
        }
    }

    /// What has ended becomes visible, who has waited too long for a line gives up, and whoever wants to stop is heard.
    fn look_after(&self, now: Duration) {
        if self.shared.stop.load(Ordering::Relaxed) {
            self.plan.borrow_mut().schedule = None;
        }
        self.give_up_waiting(now);
        let mut tally = self.tally.borrow_mut();
        tally.close_seconds(now);
        let mut published = self
            .shared
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Published { records, progress } = &mut *published;
        records.append(&mut self.records.borrow_mut());
        progress.update(
            now,
            &mut tally,
            (self.in_flight.get(), self.waiting.borrow().len()),
        );
    }
}

/// How long a request may take. One timer per line that is moved only when it rings: in the usual case, where answers come
/// long before it does, it costs nothing.
struct Patience(Pin<Box<Sleep>>);

impl Patience {
    fn new() -> Self {
        Self(Box::pin(tokio::time::sleep(Duration::ZERO)))
    }

    /// What the future came to, unless that takes until after `until`. Must be asked with ever later times.
    async fn within<F: Future>(&mut self, until: Instant, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let sleep = &mut self.0;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            while sleep.as_mut().poll(cx).is_ready() {
                if Instant::now() >= until {
                    return Poll::Ready(None);
                }
                sleep.as_mut().reset(until.into());
            }
            Poll::Pending
        })
        .await
    }
}
