//! Plays one scenario: warm up, break something, heal it, wait for the traffic to come back; for one proxy or for many
//! at once.
//!
//! Whoever plays has a [`Seat`]: its own farm, its own load and its own proxy, so that nobody's traffic disturbs
//! another's endpoints. All seats have the same seed, so the same requests are meant to start at the same moments, and
//! the director breaks and heals all farms in the same instant: the runs are pairs, and whatever else the machine does
//! meanwhile, it does to all of them. A seat whose processes die is out, with its reason; the others play on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client::FarmControl;
use crate::load::record::{Records, Span, micros};
use crate::load::{Load, LoadOptions};
use crate::run::Run;
use crate::scenario::lessons::{Lesson, lessons};
use crate::scenario::script::{Faults, by_endpoint};
use crate::scenario::{At, Scenario, site};
use crate::stage::Watcher;
use crate::stage::interrupt::Interrupt;
use crate::stage::network::Cable;
use crate::stage::topology::Pair;

pub mod seat;

pub use self::seat::Seat;

/// The first seconds of the warm-up, at most half of it, do not count as healthy: connections are being opened.
pub(crate) const SETTLING: Duration = Duration::from_secs(3);

/// How often a run looks whether the traffic is back.
const BACK_INTERVAL: Duration = Duration::from_secs(1);

/// After the traffic is back, users are watched for a little longer.
pub(crate) const AFTERMATH: Duration = Duration::from_secs(2);

/// Between two looks at the clock while waiting.
const WAIT_STEP: Duration = Duration::from_millis(100);

/// What is played, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Performance<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// Its endpoints, the same at every seat.
    pub pairs: &'a [Pair],
    /// Of every load.
    pub seed: u64,
    /// What a scenario of a bad network needs.
    pub cable: Option<&'a Cable>,
    /// Ends it early.
    pub interrupt: &'a Interrupt,
}

/// A seat while it plays.
struct Player<'a> {
    seat: &'a mut Seat,
    load: Load,
    watcher: Watcher,
    run: Run,
    is_back: bool,
    out: Option<anyhow::Error>,
}

/// Plays, and returns what happened at each seat, in their order: a run, or why there is none.
///
/// # Errors
/// When it was interrupted, or the machine does not allow what the scenario needs.
pub fn play(performance: Performance<'_>, seats: &mut [Seat]) -> Result<Vec<Result<Run>>> {
    let scenario = performance.scenario;
    let always = by_endpoint(&scenario.always, performance.pairs);
    let mut players = Vec::new();
    for seat in seats {
        set(seat, &always)?;
        players.push(Player::start(performance, seat)?);
    }
    let mut director = Director { performance, players };
    director.teach(&Lesson::default());
    director.wait(scenario.warm_up)?;
    director.fault()?;
    director.wait_for_return()?;
    let runs: Vec<_> = director.players.into_iter().map(Player::finish).collect();
    if runs.iter().any(Result::is_err) {
        // Ctrl-C reaches the farms as well, and a farm that is gone cannot be asked for its ledger.
        performance.interrupt.check()?;
    }
    Ok(runs)
}

fn set(seat: &Seat, faults: &Faults) -> Result<()> {
    let mut faults = faults.iter();
    faults.try_for_each(|(name, faults)| seat.farm.set_faults(name, faults))
}

struct Director<'a> {
    performance: Performance<'a>,
    players: Vec<Player<'a>>,
}

impl Director<'_> {
    /// Everything between onset and healing.
    fn fault(&mut self) -> Result<()> {
        let Performance {
            scenario,
            pairs,
            cable,
            ..
        } = self.performance;
        let always = by_endpoint(&scenario.always, pairs);
        let both = by_endpoint(scenario.always.iter().chain(&scenario.faults), pairs);
        let passing = by_endpoint(&scenario.faults, pairs);
        let onset = Instant::now();
        for player in &mut self.players {
            player.run.fault.from_us = micros(player.load.started().elapsed());
            player.run.healthy.to_us = player.run.fault.from_us;
            // What is always there goes on as it was; an endpoint without anything new is left alone.
            for name in passing.keys() {
                let faults = both.get(name).map(Vec::as_slice).unwrap_or_default();
                player.seat.farm.set_faults(name, faults)?;
            }
        }
        if let (Some(network), Some(cable)) = (&scenario.network, cable) {
            cable.impair(network)?;
        }
        for lesson in lessons(scenario, pairs) {
            self.wait_until(onset + lesson.after)?;
            self.teach(&lesson);
        }
        self.wait_until(onset + scenario.length)?;
        for player in &mut self.players {
            for name in passing.keys() {
                match always.get(name) {
                    Some(faults) => player.seat.farm.set_faults(name, faults)?,
                    None => player.seat.farm.heal(name)?,
                }
            }
            player.run.fault.to_us = micros(player.load.started().elapsed());
        }
        if let (Some(_), Some(cable)) = (&scenario.network, cable) {
            cable.repair()?;
        }
        self.teach(&Lesson::default());
        Ok(())
    }

    /// Tells whoever can be taught. Nobody is out because of that: an oracle that is gone is noticed anyway.
    fn teach(&self, lesson: &Lesson) {
        for player in &self.players {
            player.seat.teach(lesson);
        }
    }

    fn wait_for_return(&mut self) -> Result<()> {
        let scenario = self.performance.scenario;
        if scenario.is_quiet() {
            return Ok(());
        }
        let healed = Instant::now();
        while healed.elapsed() < scenario.recovery && !self.players.iter().all(|player| player.is_back) {
            self.wait_until(Instant::now() + BACK_INTERVAL)?;
            for player in self.players.iter_mut().filter(|player| !player.is_back) {
                player.run.timeline = player.watcher.timeline();
                player.is_back = player.out.is_some() || player.run.back_us().is_some();
            }
        }
        self.wait_until(Instant::now() + AFTERMATH)
    }

    fn wait(&mut self, length: Duration) -> Result<()> {
        self.wait_until(Instant::now() + length)
    }

    /// Waits, and looks after everybody meanwhile. Fails when nobody is left.
    fn wait_until(&mut self, until: Instant) -> Result<()> {
        loop {
            self.performance.interrupt.check()?;
            for player in self.players.iter_mut().filter(|player| player.out.is_none()) {
                player.out = player.seat.check().err();
            }
            if self.players.iter().all(|player| player.out.is_some()) {
                match self.players.iter_mut().find_map(|player| player.out.take()) {
                    Some(error) => return Err(error),
                    None => bail!("nobody plays"),
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(WAIT_STEP));
        }
    }
}

impl<'a> Player<'a> {
    fn start(performance: Performance<'_>, seat: &'a mut Seat) -> Result<Self> {
        let Performance {
            scenario,
            pairs,
            seed,
            ..
        } = performance;
        let length = scenario.length_max() + AFTERMATH + Duration::from_secs(1);
        let mut options = LoadOptions::steady(seat.users, 0.0, length);
        options.rate = scenario.rate;
        options.mix = scenario.mix();
        options.seed = seed;
        let load = Load::start(options).context("cannot start the load")?;
        let watcher = Watcher::start(seat.farm, seat.admin, load.started())?;
        let faulty = site::faulty(pairs);
        let settled = SETTLING.min(scenario.warm_up / 2);
        let run = Run {
            pairs: pairs.to_vec(),
            faulty,
            alone: scenario.is_about_one().then(|| {
                let own = scenario.faults.iter().filter(|(at, _)| *at == At::Faulty);
                own.map(|(_, fault)| fault.clone()).collect()
            }),
            healthy: Span::new(settled, settled),
            ..Run::default()
        };
        Ok(Self {
            seat,
            load,
            watcher,
            run,
            is_back: false,
            out: None,
        })
    }

    /// Ends the load and reads what is left to read.
    fn finish(self) -> Result<Run> {
        let Self {
            seat,
            load,
            watcher,
            mut run,
            out,
            ..
        } = self;
        run.end_us = micros(load.started().elapsed());
        load.stop();
        let report = load.finish();
        if let Some(error) = out {
            return Err(error);
        }
        run.records = Records::from(report.records);
        run.lag = report.lag;
        run.timeline = watcher.timeline();
        settle(&mut run, seat.farm)?;
        Ok(run)
    }
}

/// Asks the endpoints what became of the writes of `run`: which took effect twice, and which, of those that users were
/// told are done, never did.
///
/// # Errors
/// When the farm does not answer.
pub fn settle(run: &mut Run, farm: FarmControl) -> Result<()> {
    run.ledger = farm.ledger()?;
    run.missing = Some(farm.missing(&run.records.acknowledged())?);
    Ok(())
}
