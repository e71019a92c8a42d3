//! So many requests under way, and a waiting room of bounded size in front of them.
//!
//! One gate for all workers. A request that finds a place goes through; one that finds none waits, if there is room, and
//! is let through in the order of class and arrival: who matters more before who came first. Where the room is full,
//! somebody has to go, and it is whoever matters least and came last: the newcomer, or one of a lower class who has waited
//! in vain. So what is shed under overload is shed from the bottom, and nobody waits longer than `wait`: an answer that
//! comes later than its user's patience is work for nobody.
//!
//! Where the limit is adaptive it follows what requests take ([`foreshade_engine::gradient`]), from below what is
//! configured: when it rises those who wait are let through, and when it falls nobody is thrown out; places are not given
//! again until fewer are under way. What it counts are requests that wait for the first byte of their answer, because
//! that is what it learns from: a stream that goes on for an hour says nothing new, and twenty of them would hold all
//! the places of a young limit, which could never learn that there is room for more. Nor does a client who is slow to say
//! what he wants: while he is waited for, his request is in nobody's queue. What is configured counts all, to the last
//! byte.
//!
//! A lock, held for a few instructions, guards the count and the room together: two atomics could not keep the order. It is
//! taken twice per request, and only where a limit is set.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foreshade_engine::gradient::{Bounds, Gradient};
use foreshade_engine::moment::Moment;
use tokio::sync::oneshot;

/// Classes of requests.
pub const CLASSES: usize = 3;

/// Most requests that may wait at a gate: a few kilobytes each, of what they have sent already.
pub const ROOM_MAX: u32 = 100_000;

/// How much a request matters, the least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// It may be asked again later: a crawler, a report.
    Low,
    /// Most requests.
    #[default]
    Normal,
    /// A user is lost without it: a payment.
    High,
}

/// What a gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Requests under way at a time; where that is adaptive, at most.
    pub concurrency: u32,
    /// How the limit follows what requests take; it is fixed where `None`.
    pub adaptive: Option<Bounds>,
    /// Requests that may wait.
    pub room: u32,
    /// How long one may wait.
    pub wait: Duration,
}

/// A gate, who is through, and who waits.
#[derive(Debug)]
pub struct Gate {
    limit: Limit,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many may be under way now.
    limit: u32,
    /// What it follows.
    gradient: Option<Gradient>,
    under_way: u32,
    /// Those of them that wait for an endpoint.
    awaited: u32,
    waiting: u32,
    serial: u64,
    /// By class; each in the order of arrival.
    rooms: [VecDeque<Seat>; CLASSES],
}

/// Somebody who waits.
#[derive(Debug)]
struct Seat {
    serial: u64,
    turn: oneshot::Sender<Pass>,
}

/// What becomes of a request at a gate.
#[derive(Debug)]
pub enum Entry {
    /// It goes through.
    Through(Pass),
    /// It waits for its turn.
    Waits(Waiting),
    /// There is no room.
    Full,
}

/// A request that is through. It is out again when this is dropped.
#[derive(Debug)]
pub struct Pass {
    /// `None` where nobody was there to take it.
    gate: Option<Arc<Gate>>,
    /// It waits for an endpoint.
    is_awaited: bool,
}

impl Pass {
    fn of(gate: &Arc<Gate>) -> Self {
        Self {
            gate: Some(gate.clone()),
            is_awaited: true,
        }
    }

    /// Whether it leads through this gate.
    pub fn is_of(&self, gate: &Arc<Gate>) -> bool {
        self.gate.as_ref().is_some_and(|own| Arc::ptr_eq(own, gate))
    }

    /// The answer begins after `latency`, or is given up as too `late`: an adaptive limit learns of it.
    pub fn sample(&mut self, now: Moment, latency: Duration, late: bool) {
        self.tell(false, |state| state.learn(now, latency, late));
    }

    /// Its client has gone, who `waited` for its answer. While it was he who was waited for, that says nothing.
    pub fn abandoned(&mut self, now: Moment, waited: Duration) {
        if self.is_awaited {
            self.tell(false, |state| state.abandon(now, waited));
        }
    }

    /// No answer is waited for: it has begun, or its client has not said all.
    pub fn rests(&mut self) {
        if self.is_awaited {
            self.tell(false, |_| ());
        }
    }

    /// Its answer is waited for again, whether or not its place was given to somebody else meanwhile.
    pub fn waits(&mut self) {
        if !self.is_awaited {
            self.tell(true, |_| ());
        }
    }

    /// An adaptive limit learns something of it, and whether its answer is awaited from now on.
    fn tell(&mut self, is_awaited: bool, learn: impl FnOnce(&mut State)) {
        if let Some(gate) = self.gate.as_ref().filter(|gate| gate.limit.adaptive.is_some()) {
            let was_awaited = std::mem::replace(&mut self.is_awaited, is_awaited);
            gate.change(|state| {
                learn(state);
                state.awaited = state.awaited - u32::from(was_awaited) + u32::from(is_awaited);
            });
        }
    }
}

/// A request that waits. It leaves the room when this is dropped.
#[derive(Debug)]
pub struct Waiting {
    gate: Arc<Gate>,
    class: usize,
    serial: u64,
    turn: oneshot::Receiver<Pass>,
}

/// Why a request that waited is not through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// It waited as long as it may.
    TooLong,
    /// It gave way to one that matters more.
    Shed,
}

impl Gate {
    /// A gate with nobody in it.
    pub fn new(limit: Limit) -> Self {
        let gradient = limit.adaptive.map(Gradient::new);
        let state = State {
            limit: gradient.as_ref().map_or(limit.concurrency, Gradient::limit),
            gradient,
            ..State::default()
        };
        Self {
            limit,
            state: Mutex::new(state),
        }
    }

    /// What it says.
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// A request comes.
    pub fn enter(self: &Arc<Self>, priority: Priority, now: Moment) -> Entry {
        let mut state = self.state();
        if state.is_back(now) {
            // Who waits goes first.
            drop(state);
            self.change(|_| ());
            state = self.state();
        }
        if state.take_place(self.limit.concurrency) {
            return Entry::Through(Pass::of(self));
        }
        let class = priority as usize;
        if state.waiting >= self.limit.room && !state.shed_below(class) {
            return Entry::Full;
        }
        let (turn, waits) = oneshot::channel();
        let serial = state.seat(class, turn);
        Entry::Waits(Waiting {
            gate: self.clone(),
            class,
            serial,
            turn: waits,
        })
    }

    /// Requests that are under way, and that wait.
    pub fn counts(&self) -> (u32, u32) {
        let state = self.state();
        (state.under_way, state.waiting)
    }

    /// How many may be under way now.
    pub fn limit_now(&self) -> u32 {
        self.state().limit
    }

    /// What a request takes when nothing waits, where the limit is adaptive and that is known.
    pub fn base(&self) -> Option<Duration> {
        self.state().gradient.as_ref()?.base()
    }

    /// In a line.
    pub fn in_words(&self) -> String {
        let Limit {
            concurrency,
            adaptive,
            room,
            wait,
        } = &self.limit;
        let many = match adaptive {
            Some(bounds) => format!(
                "as many requests under way as it serves without a queue, {} to {concurrency}",
                bounds.min
            ),
            None => format!("at most {concurrency} requests under way"),
        };
        format!("{many}, {room} wait for {wait:?} at most")
    }

    /// Changes something in it, and gives places that are free after that to those who wait.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State)) {
        let mut seat = {
            let mut state = self.state();
            change(&mut state);
            state.admit(self.limit.concurrency)
        };
        while let Some(next) = seat {
            let sent = next.turn.send(Pass::of(self));
            let mut state = self.state();
            if let Err(mut pass) = sent {
                // He has gone just now. The place is still ours to give.
                pass.gate = None;
                state.give_back(true);
            }
            seat = state.admit(self.limit.concurrency);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked while it counted has counted, or has not: either is a state that can go on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Gate {
    /// Gates are equal if they say the same, whoever is in them.
    fn eq(&self, other: &Self) -> bool {
        self.limit == other.limit
    }
}

impl State {
    /// Takes a place, if one of `concurrency` is free and the limit leaves it.
    fn take_place(&mut self, concurrency: u32) -> bool {
        let is_free = self.awaited < self.limit && self.under_way < concurrency;
        if is_free {
            self.under_way += 1;
            self.awaited += 1;
        }
        is_free
    }

    fn give_back(&mut self, was_awaited: bool) {
        self.under_way -= 1;
        self.awaited -= u32::from(was_awaited);
    }

    /// Takes a place for whoever waits next.
    fn admit(&mut self, concurrency: u32) -> Option<Seat> {
        if self.waiting == 0 || !self.take_place(concurrency) {
            return None;
        }
        let seat = self.next();
        if seat.is_none() {
            self.give_back(true);
        }
        seat
    }

    /// An answer has taken so long.
    fn learn(&mut self, now: Moment, latency: Duration, late: bool) {
        if let Some(gradient) = self.gradient.as_mut() {
            gradient.sample(now, latency, self.awaited, late);
            self.limit = gradient.limit();
        }
    }

    /// Somebody has gone without an answer.
    fn abandon(&mut self, now: Moment, waited: Duration) {
        if let Some(gradient) = self.gradient.as_mut() {
            gradient.abandoned(now, waited, self.awaited);
            self.limit = gradient.limit();
        }
    }

    /// Whether the limit is back from a measurement that has come to nothing.
    fn is_back(&mut self, now: Moment) -> bool {
        let Some(gradient) = self.gradient.as_mut() else {
            return false;
        };
        gradient.look(now);
        let before = std::mem::replace(&mut self.limit, gradient.limit());
        before < self.limit
    }

    fn seat(&mut self, class: usize, turn: oneshot::Sender<Pass>) -> u64 {
        self.serial += 1;
        let serial = self.serial;
        if let Some(room) = self.rooms.get_mut(class) {
            room.push_back(Seat { serial, turn });
            self.waiting += 1;
        }
        serial
    }

    /// Whoever waits next: the highest class first, in it who came first.
    fn next(&mut self) -> Option<Seat> {
        let seat = self.rooms.iter_mut().rev().find_map(VecDeque::pop_front)?;
        self.waiting -= 1;
        Some(seat)
    }

    /// Sends away whoever matters least and came last, if he matters less than `class`. He sees it by his sender that is
    /// gone.
    fn shed_below(&mut self, class: usize) -> bool {
        let shed = self.rooms.iter_mut().take(class).find_map(VecDeque::pop_back);
        if shed.is_some() {
            self.waiting -= 1;
        }
        shed.is_some()
    }

    /// Somebody leaves the room who may have been let through or sent away already.
    fn leave(&mut self, class: usize, serial: u64) {
        let Some(room) = self.rooms.get_mut(class) else {
            return;
        };
        // Serials only grow, and nobody changes places.
        if let Ok(at) = room.binary_search_by_key(&serial, |seat| seat.serial) {
            room.remove(at);
            self.waiting -= 1;
        }
    }
}

impl Waiting {
    /// Waits for the turn.
    ///
    /// # Errors
    /// Why it does not come.
    pub async fn turn(mut self) -> Result<Pass, Turned> {
        let wait = self.gate.limit.wait;
        match tokio::time::timeout(wait, &mut self.turn).await {
            Ok(Ok(pass)) => Ok(pass),
            Ok(Err(_)) => Err(Turned::Shed),
            Err(_) => Err(Turned::TooLong),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.gate.state().leave(self.class, self.serial);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            let was_awaited = self.is_awaited;
            gate.change(|state| state.give_back(was_awaited));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(concurrency: u32, room: u32) -> Arc<Gate> {
        Arc::new(Gate::new(Limit {
            concurrency,
            adaptive: None,
            room,
            wait: Duration::from_secs(1),
        }))
    }

    fn through(gate: &Arc<Gate>) -> Pass {
        match gate.enter(Priority::Normal, Moment::ZERO) {
            Entry::Through(pass) => pass,
            other => panic!("{other:?}"),
        }
    }

    fn waits(gate: &Arc<Gate>, priority: Priority) -> Waiting {
        match gate.enter(priority, Moment::ZERO) {
            Entry::Waits(waiting) => waiting,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_matters_more_goes_first_and_then_who_came_first() {
        let gate = gate(1, 10);
        let pass = through(&gate);
        let low = waits(&gate, Priority::Low);
        let first = waits(&gate, Priority::Normal);
        let second = waits(&gate, Priority::Normal);
        let high = waits(&gate, Priority::High);
        drop(pass);
        for waiting in [high, first, second, low] {
            drop(waiting.turn().await.unwrap());
        }
        assert_eq!(gate.counts(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_room_sheds_whoever_matters_least_and_came_last() {
        let gate = gate(1, 2);
        let pass = through(&gate);
        let early = waits(&gate, Priority::Low);
        let late = waits(&gate, Priority::Low);
        assert!(
            matches!(gate.enter(Priority::Low, Moment::ZERO), Entry::Full),
            "nobody is below him"
        );
        let normal = waits(&gate, Priority::Normal);
        assert_eq!(late.turn().await.unwrap_err(), Turned::Shed);
        let high = waits(&gate, Priority::High);
        assert_eq!(early.turn().await.unwrap_err(), Turned::Shed);
        assert!(matches!(gate.enter(Priority::Normal, Moment::ZERO), Entry::Full));
        drop(pass);
        drop(high.turn().await.unwrap());
        drop(normal.turn().await.unwrap());
        assert_eq!(gate.counts(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_he_may_and_his_seat_is_free_again() {
        let gate = gate(1, 1);
        let pass = through(&gate);
        let waiting = waits(&gate, Priority::Normal);
        let begun = tokio::time::Instant::now();
        assert_eq!(waiting.turn().await.unwrap_err(), Turned::TooLong);
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
        assert_eq!(gate.counts(), (1, 0));
        drop(waits(&gate, Priority::Normal));
        assert_eq!(gate.counts(), (1, 0), "a client that goes away leaves the room");
        drop(pass);
        assert_eq!(gate.counts(), (0, 0));
    }

    #[tokio::test]
    async fn a_place_given_to_one_who_has_gone_is_given_to_the_next() {
        let gate = gate(1, 10);
        let pass = through(&gate);
        let gone = waits(&gate, Priority::High);
        let next = waits(&gate, Priority::Normal);
        // His turn has come, and he never looks.
        drop(pass);
        drop(gone);
        drop(next.turn().await.unwrap());
        assert_eq!(gate.counts(), (0, 0));
    }

    #[test]
    fn without_room_nobody_waits() {
        let gate = gate(1, 0);
        let _pass = through(&gate);
        assert!(matches!(gate.enter(Priority::High, Moment::ZERO), Entry::Full));
    }

    #[test]
    fn threads_that_come_and_go_leave_nothing_behind_and_are_never_too_many() {
        let gate = gate(3, 2);
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (gate, inside) = (&gate, &inside);
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_time()
                        .build();
                    runtime.unwrap().block_on(async {
                        for turn in 0..500 {
                            let priority =
                                [Priority::Low, Priority::Normal, Priority::High][(worker + turn) % 3];
                            let pass = match gate.enter(priority, Moment::ZERO) {
                                Entry::Through(pass) => pass,
                                Entry::Full => continue,
                                Entry::Waits(waiting) if turn % 5 == 0 => {
                                    drop(waiting);
                                    continue;
                                }
                                Entry::Waits(waiting) => match waiting.turn().await {
                                    Ok(pass) => pass,
                                    Err(_) => continue,
                                },
                            };
                            let now = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                            assert!(now <= 3, "{now}");
                            std::thread::yield_now();
                            inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            drop(pass);
                        }
                    });
                });
            }
        });
        assert_eq!(gate.counts(), (0, 0));
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn adaptive(start: u32) -> Arc<Gate> {
        Arc::new(Gate::new(Limit {
            concurrency: 100,
            adaptive: Some(Bounds {
                min: 2,
                max: 100,
                start,
                recheck: Duration::from_secs(30),
            }),
            room: 1000,
            wait: SECOND,
        }))
    }

    /// Tells the gate of so many answers after `latency`, a hundred of them in a second.
    fn tell(gate: &Arc<Gate>, now_us: &mut u64, count: u32, latency: Duration) {
        for _ in 0..count {
            *now_us += 10_000;
            gate.change(|state| state.learn(Moment::from_micros(*now_us), latency, false));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_rises_lets_those_in_who_wait() {
        let gate = adaptive(4);
        let passes: Vec<_> = (0..4).map(|_| through(&gate)).collect();
        let mut waiting: Vec<_> = (0..20).map(|_| waits(&gate, Priority::Normal)).collect();
        let mut now_us = 0;
        tell(&gate, &mut now_us, 32, Duration::from_millis(10));
        let limit = gate.limit_now();
        assert!(limit > 4, "{limit}: nothing is slower with four");
        assert_eq!(gate.counts(), (limit, 24 - limit));
        let first = waiting.remove(0).turn().await;
        assert!(first.is_ok());
        drop((passes, first));
        drop(waiting);
        assert_eq!(gate.counts(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_falls_throws_nobody_out_and_gives_no_place_again() {
        let gate = adaptive(40);
        let mut passes: Vec<_> = (0..40).map(|_| through(&gate)).collect();
        let mut now_us = 0;
        tell(&gate, &mut now_us, 32, Duration::from_millis(10));
        let _more: Vec<_> = (gate.counts().0..gate.limit_now())
            .map(|_| through(&gate))
            .collect();
        let before = gate.limit_now();
        let waiting = waits(&gate, Priority::High);
        while gate.limit_now() + 5 > before {
            tell(&gate, &mut now_us, 1, SECOND);
        }
        assert_eq!(gate.counts(), (before, 1), "nobody is thrown out");
        drop(passes.pop());
        assert_eq!(gate.counts(), (before - 1, 1), "and nobody comes in");
        while gate.counts().0 > gate.limit_now() {
            drop(passes.pop());
        }
        drop(passes.pop());
        assert_eq!(gate.counts(), (gate.limit_now(), 0));
        assert!(waiting.turn().await.is_ok());
    }

    #[test]
    fn answers_that_go_on_hold_no_place_of_a_limit_that_is_found_but_of_the_one_that_is_configured() {
        let gate = adaptive(20);
        let latency = Duration::from_millis(10);
        let mut passes: Vec<_> = (0..20).map(|_| through(&gate)).collect();
        for pass in &mut passes {
            pass.sample(Moment::from_micros(10_000), latency, false);
            pass.rests();
        }
        assert_eq!(gate.counts(), (20, 0), "all of them go on");
        for _ in 20..100 {
            let mut pass = through(&gate);
            pass.rests();
            passes.push(pass);
        }
        assert!(matches!(
            gate.enter(Priority::High, Moment::ZERO),
            Entry::Waits(_)
        ));
        drop(passes);
        assert_eq!(gate.counts(), (0, 0));
        assert_eq!(gate.state().awaited, 0);
    }

    #[test]
    fn who_waits_for_his_client_holds_no_place_of_a_limit_that_is_found_until_he_waits_again() {
        let gate = adaptive(2);
        let mut passes = [through(&gate), through(&gate)];
        passes.iter_mut().for_each(Pass::rests);
        let others = [through(&gate), through(&gate)];
        for _ in 0..2 {
            passes.iter_mut().for_each(Pass::waits);
        }
        assert_eq!(gate.state().awaited, 4, "nobody is thrown out");
        drop(others);
        assert!(matches!(
            gate.enter(Priority::High, Moment::ZERO),
            Entry::Waits(_)
        ));
        passes.iter_mut().for_each(Pass::rests);
        drop(passes);
        assert_eq!((gate.counts(), gate.state().awaited), ((0, 0), 0));
    }

    #[test]
    fn a_client_who_goes_away_while_he_is_waited_for_says_nothing_of_an_endpoint() {
        for (rests, falls) in [(true, false), (false, true)] {
            let (gate, mut now_us) = (adaptive(40), 0);
            tell(&gate, &mut now_us, 32, Duration::from_millis(10));
            let before = gate.limit_now();
            for _ in 0..100 {
                let mut pass = through(&gate);
                if rests {
                    pass.rests();
                }
                now_us += 10_000;
                pass.abandoned(Moment::from_micros(now_us), SECOND);
            }
            assert_eq!(gate.limit_now() < before, falls, "{before}");
        }
    }
}
