//! What all proxies have said, made into what is known of each pair.
//!
//! A proxy reports sums since a round began, so whatever is lost, comes twice or comes late does no harm: what counts is
//! the difference to the last sums of the same start of the same proxy in the same round. Differences of all proxies are
//! gathered by the probability of the draw and by the part of the requests that the arms had in each, until the next tick
//! takes all of them for the judge: whatever came between two looks is one tick, whoever saw it.
//!
//! Proxies report what has changed, so one that is linked and says nothing of a pair stands by what it said. One whose
//! link is down is not taken for one that sees nothing wrong: after [`STALE`] its voices no longer count, after
//! [`FORGOTTEN`] it is nobody any more, and until then a plan that it has not acknowledged is not acknowledged by all.
//! Memory: a proxy that has never had traffic for a pair costs twenty-four bytes there, and nothing is kept of what is
//! not in the plan.

mod absent;
mod flow;
mod voice;
mod voices;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use foreshade_contract::plan::PlanId;
use foreshade_contract::report::{ArmCounters, BootId, Mirrored, Report, Status};
use foreshade_contract::{Arm, Epoch, Generation, Name, PairId, Round, Share};
use foreshade_engine::lifecycle::sight::ArmSight;
use foreshade_engine::moment::Moment;

use self::absent::Absent;
use self::flow::Flow;
use self::voices::Voices;

/// How long a proxy's voices count after its link went down: a reconnect takes less.
pub const STALE: Duration = Duration::from_secs(5);

/// How long a proxy that is gone is still waited for. A restart takes less; who is scaled in is not coming back.
pub const FORGOTTEN: Duration = Duration::from_secs(60);

/// Most proxies. Each one more is one more link, and one more voice for each pair.
pub const PROXIES_MAX: usize = 4096;

/// A number for a proxy while it is known, in place of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Number(u16);

/// A proxy that has said who it is.
#[derive(Clone, Debug)]
pub struct Proxy {
    number: Number,
    /// This start of it.
    pub boot: BootId,
    /// The plan in force there.
    pub plan: Option<PlanId>,
    /// When it was last heard.
    pub heard: Moment,
    /// Whether its link is up.
    pub linked: bool,
    /// Pairs that it cannot carry out.
    unapplied: Vec<PairId>,
}

/// Requests of one interval, of proxies that drew alike and in which the arms had the same part of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batch {
    /// Which arm the proxies took for the one that serves.
    pub serving: Arm,
    /// The probability with which they drew the other one.
    pub drawn: Share,
    /// By arm.
    pub arms: [ArmCounters; 2],
}

/// What is known of one pair, of the last few seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairView {
    /// By arm; the capacity is not a proxy's to know.
    pub arms: [ArmSight; 2],
    /// Requests per second, an upper estimate.
    pub demand_rps: f64,
    /// The share that the arm that does not serve has, over all proxies; nothing where none was heard.
    pub share: Option<f64>,
    /// Since the last look, in this round.
    pub batches: Vec<Batch>,
    /// Copies since the last look, in this round, by the arm that they went to.
    pub mirrored: Vec<(Arm, Mirrored)>,
    /// Round trip between proxies and the shadow, where they have measured it.
    pub shadow_rtt: Option<Duration>,
    /// Some proxies cannot carry the pair out.
    pub unapplied: Option<Unable>,
}

/// Proxies that cannot carry a pair out, because their configuration is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unable {
    /// How many.
    pub proxies: usize,
    /// Why, in the words of one of them.
    pub why: String,
}

/// Everything that proxies have said.
#[derive(Debug, Default)]
pub struct Fleet {
    proxies: BTreeMap<Name, Proxy>,
    pairs: HashMap<PairId, Heard>,
    voices: Voices,
    absent: Absent,
    next: u16,
}

/// All about one pair.
#[derive(Debug, Default)]
struct Heard {
    round: Round,
    /// Its place among the voices.
    place: usize,
    flow: Flow,
    /// Its shadow, as of the last look, and the round in which that became it: proxies that are at an earlier one still speak
    /// of another.
    shadow: (Option<Name>, Round),
    /// Proxies that cannot carry it out, and why.
    unapplied: BTreeMap<Number, String>,
    /// The round began before this leader did, or before a proxy was forgotten.
    is_resumed: bool,
    /// What the voices came to at the last look; none after any of them has changed. A thousand proxies see ten thousand
    /// pairs, and at almost all of them nothing happens.
    opinion: Option<Opinion>,
}

/// What the voices about a pair come to.
#[derive(Debug)]
struct Opinion {
    /// By then the voices that count had changed so often.
    changes: u64,
    arms: [ArmSight; 2],
    share: Option<f64>,
    shadow_rtt: Option<Duration>,
    unapplied: Option<Unable>,
}

impl Fleet {
    /// A proxy has connected.
    ///
    /// # Errors
    /// When there are too many already.
    pub fn greet(
        &mut self,
        name: &Name,
        boot: BootId,
        plan: Option<PlanId>,
        now: Moment,
    ) -> Result<(), TooMany> {
        if let Some(proxy) = self.proxies.get_mut(name) {
            (proxy.boot, proxy.plan) = (boot, plan);
            proxy.hear(&mut self.absent, now);
            return Ok(());
        }
        if self.proxies.len() >= PROXIES_MAX {
            return Err(TooMany);
        }
        let proxy = Proxy {
            number: self.free_number(),
            boot,
            plan,
            heard: now,
            linked: true,
            unapplied: Vec::new(),
        };
        self.proxies.insert(name.clone(), proxy);
        Ok(())
    }

    /// A number that nobody has. There are more of them than proxies.
    fn free_number(&mut self) -> Number {
        loop {
            self.next = self.next.wrapping_add(1);
            let number = Number(self.next);
            if self.proxies.values().all(|proxy| proxy.number != number) {
                return number;
            }
        }
    }

    /// A proxy's link is down. If it has another one already, that will be heard.
    pub fn lose(&mut self, proxy: &Name, now: Moment) {
        if let Some(proxy) = self.proxies.get_mut(proxy) {
            proxy.linked = false;
            self.absent.left(proxy.number, now);
        }
    }

    /// A proxy says what became of plans.
    pub fn acknowledge(&mut self, proxy: &Name, status: &Status, now: Moment) {
        let Some(proxy) = self.proxies.get_mut(proxy) else {
            return;
        };
        proxy.plan = status.plan;
        proxy.hear(&mut self.absent, now);
        let number = proxy.number;
        for pair in std::mem::take(&mut proxy.unapplied) {
            if let Some(heard) = self.pairs.get_mut(&pair) {
                heard.unapplied.remove(&number);
                heard.opinion = None;
            }
        }
        for said in &status.unapplied {
            if let Some(heard) = self.pairs.get_mut(&said.pair) {
                heard.unapplied.insert(number, said.why.clone());
                heard.opinion = None;
                proxy.unapplied.push(said.pair.clone());
            }
        }
    }

    /// This start of a proxy says what it saw. Pairs that are not [watched](Self::watch) are no concern of ours, and
    /// neither is what a start says that has been followed by another one.
    pub fn report(&mut self, (proxy, boot): (&Name, BootId), report: &Report, now: Moment) {
        let Some(proxy) = self.proxies.get_mut(proxy).filter(|proxy| proxy.boot == boot) else {
            return;
        };
        proxy.hear(&mut self.absent, now);
        let number = proxy.number;
        for said in &report.pairs {
            let Some(heard) = self.pairs.get_mut(&said.pair) else {
                continue;
            };
            // Of a round that is over nobody knows any more how far it was counted.
            let is_resumed = heard.is_resumed || said.round < heard.round;
            let Some(voice) = self.voices.voice(number, heard.place) else {
                continue;
            };
            let more = voice.hear((boot, is_resumed), said, now);
            heard.opinion = None;
            let is_current = said.round == heard.round;
            heard.flow.take(&more, is_current, now);
        }
    }

    /// These pairs are listened to from now on, each in its round; whatever was said before is forgotten.
    pub fn watch(&mut self, rounds: impl IntoIterator<Item = (PairId, Round)>) {
        let heard = |(place, (pair, round))| {
            let heard = Heard {
                round,
                place,
                ..Heard::default()
            };
            (pair, heard)
        };
        self.pairs = rounds.into_iter().enumerate().map(heard).collect();
        self.voices = Voices::of(self.pairs.len());
    }

    /// A pair has begun another round.
    pub fn begin(&mut self, pair: &PairId, round: Round) {
        if let Some(heard) = self.pairs.get_mut(pair) {
            heard.begin(round);
        }
    }

    /// The same for a leader who takes over: of rounds that began before him, what the first report of a proxy says is where
    /// counting begins. It may be counted already in what was written down.
    pub fn resume(&mut self, rounds: impl IntoIterator<Item = (PairId, Round)>) {
        self.watch(rounds);
        self.pairs.values_mut().for_each(|heard| heard.is_resumed = true);
    }

    /// Proxies that are linked; of them, those that follow this plan or a later one, and those not heard of lately.
    pub fn counts(&self, plan: PlanId, now: Moment) -> (usize, usize, usize) {
        let linked = || self.proxies.values().filter(|proxy| proxy.linked);
        let follows = |proxy: &&Proxy| proxy.plan.is_some_and(|in_force| in_force >= plan);
        let is_stale = |proxy: &&Proxy| now.since(proxy.heard) > STALE;
        (
            linked().count(),
            linked().filter(follows).count(),
            linked().filter(is_stale).count(),
        )
    }

    /// Forgets proxies that have been gone for too long.
    pub fn tidy(&mut self, now: Moment) {
        let gone = |proxy: &Proxy| !proxy.linked && now.since(proxy.heard) > FORGOTTEN;
        let numbers: Vec<_> = self
            .proxies
            .values()
            .filter(|proxy| gone(proxy))
            .map(|proxy| proxy.number)
            .collect();
        if numbers.is_empty() {
            return;
        }
        self.proxies.retain(|_, proxy| !gone(proxy));
        numbers.iter().for_each(|number| self.absent.is_back(*number));
        let spoke: Vec<_> = numbers.iter().map(|number| self.voices.forget(*number)).collect();
        for heard in self.pairs.values_mut() {
            heard.unapplied.retain(|number, _| !numbers.contains(number));
            heard.opinion = None;
            // Whoever comes back has sums of this round that were counted, and nobody knows any more how far.
            heard.is_resumed |= spoke
                .iter()
                .any(|spoke| spoke.get(heard.place).copied().unwrap_or_default());
        }
    }

    /// What is known of a pair with this shadow in this round; what was counted since the last look is handed over with it.
    pub fn look(&mut self, pair: &PairId, shadow: Option<&Name>, round: Round, now: Moment) -> PairView {
        let Some(heard) = self.pairs.get_mut(pair) else {
            return PairView::default();
        };
        heard.begin(round);
        if heard.shadow.0.as_ref() != shadow {
            heard.shadow = (shadow.cloned(), round);
            heard.opinion = None;
        }
        heard.view(&self.voices, &mut self.absent, now)
    }

    /// Intervals that were not counted, because there were more fractions at once than are told apart.
    pub fn dropped(&self) -> u64 {
        self.pairs.values().map(|heard| heard.flow.dropped()).sum()
    }

    /// τ50, τ90, τ99 and τ99.9 of an arm over the last minutes; `None` before it has served enough.
    pub fn thresholds(&mut self, pair: &PairId, arm: Arm) -> Option<[Duration; 4]> {
        self.pairs.get_mut(pair)?.flow.thresholds(arm)
    }

    /// The highest generation of this epoch that more than half of the proxies follow, and the one that all do.
    pub fn followed(&self, epoch: Epoch) -> (Generation, Generation) {
        let of = |proxy: &Proxy| {
            proxy
                .plan
                .filter(|plan| plan.epoch == epoch)
                .map_or(Generation(0), |plan| plan.generation)
        };
        let mut followed: Vec<_> = self.proxies.values().map(of).collect();
        followed.sort_unstable();
        let all = followed.first().copied().unwrap_or_default();
        // So many are below it that those at or above it are more than half.
        let below = followed.len().saturating_sub(1) / 2;
        (followed.get(below).copied().unwrap_or_default(), all)
    }

    /// Everybody who is known, in the order of names.
    pub fn proxies(&self) -> impl Iterator<Item = (&Name, &Proxy)> {
        self.proxies.iter()
    }
}

/// More proxies than one controller is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{PROXIES_MAX} proxies are known already")]
pub struct TooMany;

impl Proxy {
    /// It has said something, so it has a link.
    fn hear(&mut self, absent: &mut Absent, now: Moment) {
        (self.heard, self.linked) = (now, true);
        absent.is_back(self.number);
    }
}

impl Heard {
    /// What was counted in another round is no evidence in this one.
    fn begin(&mut self, round: Round) {
        if self.round != round {
            self.round = round;
            self.is_resumed = false;
            self.flow.begin_round();
        }
    }

    fn view(&mut self, voices: &Voices, absent: &mut Absent, now: Moment) -> PairView {
        self.flow.look(now);
        let changes = absent.changes(now);
        let known = self.opinion.take().filter(|known| known.changes == changes);
        let opinion = known.unwrap_or_else(|| self.gather(voices, absent, changes));
        let arm = |arm: Arm| ArmSight {
            severe: self.flow.is_severe(arm, now),
            ..opinion.arms.get(arm.index()).copied().unwrap_or_default()
        };
        let view = PairView {
            arms: Arm::ALL.map(arm),
            share: opinion.share,
            demand_rps: self.flow.demand_rps(now),
            shadow_rtt: opinion.shadow_rtt,
            unapplied: opinion.unapplied.clone(),
            batches: self.flow.drain(),
            mirrored: self.flow.drain_copies(),
        };
        self.opinion = Some(opinion);
        view
    }

    /// What the voices that count come to.
    fn gather(&self, voices: &Voices, absent: &Absent, changes: u64) -> Opinion {
        let said: Vec<_> = voices
            .about(self.place)
            .filter(|(number, _)| !absent.is_stale(*number))
            .map(|(_, voice)| voice)
            .collect();
        let fresh = || said.iter().copied();
        // What is said of another shadow is nothing about this one.
        let of_shadow = || fresh().filter(|voice| voice.is_of(self.shadow.1));
        let arm = |arm: Arm| {
            let about: Vec<_> = match arm {
                Arm::Primary => fresh().collect(),
                Arm::Shadow => of_shadow().collect(),
            };
            let (health, down) = voice::health(about.iter().copied(), arm);
            ArmSight {
                health,
                down,
                risk: voice::risk(about.iter().copied(), arm),
                ..ArmSight::default()
            }
        };
        let unable = self
            .unapplied
            .iter()
            .filter(|(number, _)| !absent.is_stale(**number));
        let why = unable.clone().next().map(|(_, why)| why.clone());
        let unapplied = why.map(|why| Unable {
            proxies: unable.count(),
            why,
        });
        Opinion {
            changes,
            arms: Arm::ALL.map(arm),
            share: voice::share(fresh()),
            shadow_rtt: voice::rtt(of_shadow(), Arm::Shadow),
            unapplied,
        }
    }
}

#[cfg(test)]
mod tests {
    use foreshade_contract::report::PairReport;

    use super::*;

    #[test]
    fn sums_of_a_round_that_is_over_are_no_burst_of_demand() {
        let name = |text: &str| -> Name { text.parse().unwrap() };
        let pair = PairId {
            cluster: name("shop"),
            primary: name("a"),
        };
        let (proxy, boot, mut fleet) = (name("edge"), BootId(1), Fleet::default());
        fleet.watch([(pair.clone(), Round(2))]);
        fleet.greet(&proxy, boot, None, Moment::ZERO).unwrap();
        let said = |requests| PairReport {
            pair: pair.clone(),
            round: Round(1),
            serving: Arm::Primary,
            share: Share::ZERO,
            risk: [None; 2],
            health: Default::default(),
            arms: [
                ArmCounters {
                    requests,
                    ..ArmCounters::default()
                },
                ArmCounters::default(),
            ],
            segments: Vec::new(),
            latency: Default::default(),
            network: Default::default(),
            mirrored: Default::default(),
        };
        // It has served a day in that round, and goes on with a hundred a second.
        for second in 10..20 {
            let report = Report {
                sequence: second,
                complete: true,
                pairs: vec![said(10_000_000 + 100 * second)],
            };
            let now = Moment::from_micros(second * 1_000_000);
            fleet.report((&proxy, boot), &report, now);
        }
        let view = fleet.look(&pair, None, Round(2), Moment::from_micros(20_000_000));
        assert!((50.0..200.0).contains(&view.demand_rps), "{}", view.demand_rps);
    }
}
