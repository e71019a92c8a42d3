//! What a worker counts of pairs that are under analysis: how the requests ended that its router drew to either side.
//!
//! The verdict's guarantee rests on one thing: whether a request was drawn to the primary or the shadow has nothing to do
//! with how it ends. So a request is counted where it was *drawn*, by its first attempt alone, whoever served it in the
//! end: a retry goes where the first failed, which is not chance. And it is counted with the probability of its draw, in
//! a cell of its own per probability: users of another segment, or another share a tick later, are another coin.
//!
//! The buffers are the worker's own, like those of the recorder, and travel with them: no lock, no atomic, and an
//! allocation only the first time that a buffer meets a pair. Where no plan asks for it, a request costs one look.

pub(crate) mod books;

use std::time::Duration;

use foreshade_contract::{Arm, ArmCounters, Round};
use foreshade_engine::balance::{Draw, Side};
use foreshade_engine::outcome::Class;

pub use self::books::Books;
use crate::recorder::Place;
use crate::topology::descent::Descent;
use crate::topology::ids::EndpointId;

/// Cells of one pair in one tick: sixteen route classes and a few segments under one share have as many at most. What
/// does not fit is not counted, and how much that was is.
pub const CELLS_MAX: usize = 64;

/// An analysis of one pair, as workers have to know it: by the primary of now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// What the counters are kept for.
    pub round: Round,
    /// Which arm the primary of now is.
    pub serving: Arm,
    /// Above which latencies requests count as over; nothing is where there are none.
    pub thresholds: Option<[Duration; 4]>,
}

/// A request that was drawn.
#[derive(Clone, Copy, Debug)]
pub struct Drawn {
    /// The slot's primary, by its index now.
    pub primary: usize,
    /// The same, for when indices mean others.
    pub id: EndpointId,
    round: Round,
    limit: u32,
    arm: Arm,
    /// It has been counted; what else becomes of it is added to that.
    counted: bool,
}

/// Counters of one round under one probability.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// The round.
    pub round: Round,
    /// The router's threshold: the probability to the bit.
    pub limit: u32,
    /// By arm.
    pub arms: [ArmCounters; 2],
}

/// The cells of one primary.
#[derive(Clone, Debug, Default)]
pub struct Cells(Vec<Cell>);

/// A worker's buffers: by cluster and endpoint index.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pairs: Vec<Vec<Cells>>,
    /// Requests that found no cell.
    pub lost: u64,
}

/// How a request's first attempt ended, in the words of the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Well, or by the client's doing.
    Served,
    /// No connection.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection broke.
    Reset,
    /// 5xx, or no HTTP.
    Failed,
}

impl Event {
    /// Of an attempt that ended in this class, with this status where there is one.
    pub fn of(class: Class, status: Option<u16>) -> Self {
        match class {
            Class::ConnectFailed | Class::Refused => Self::Connect,
            Class::Timeout => Self::Timeout,
            Class::Reset => Self::Reset,
            Class::AppError | Class::GatewayError => Self::Failed,
            // Full, and told so to a user: what he got is an error all the same.
            Class::Shed if status.is_some_and(|status| status >= 500) => Self::Failed,
            Class::Shed | Class::Ok | Class::ClientError | Class::Cancelled => Self::Served,
        }
    }
}

impl Drawn {
    /// By the router's draw, in a trial.
    pub fn new(primary: usize, id: EndpointId, draw: Draw, trial: &Trial) -> Self {
        Self {
            primary,
            id,
            round: trial.round,
            limit: draw.limit,
            arm: match draw.side {
                Side::Primary => trial.serving,
                Side::Shadow => trial.serving.other(),
            },
            counted: false,
        }
    }
}

impl Ledger {
    /// Empty buffers for clusters of these sizes.
    pub fn new(sizes: &[usize]) -> Self {
        Self {
            pairs: sizes.iter().map(|n| vec![Cells::default(); *n]).collect(),
            lost: 0,
        }
    }

    /// Counts how the first attempt ended; a second call adds an answer that broke off after its head. `latency` counts
    /// against the thresholds of the round, a timeout against all of them: it was given up before it could be slower.
    pub fn count(
        &mut self,
        cluster: usize,
        drawn: &mut Drawn,
        event: Event,
        latency: Duration,
        thresholds: Option<&[Duration; 4]>,
    ) {
        let again = std::mem::replace(&mut drawn.counted, true);
        let Some(counters) = self.counters(cluster, drawn) else {
            self.lost += u64::from(!again);
            return;
        };
        counters.requests += u64::from(!again);
        match event {
            Event::Served => {}
            Event::Connect => counters.connect += 1,
            Event::Timeout => counters.timeout += 1,
            Event::Reset => counters.reset += 1,
            Event::Failed => counters.status_5xx += 1,
        }
        if let (Some(thresholds), false) = (thresholds, again) {
            let latency = if event == Event::Timeout {
                Duration::MAX
            } else {
                latency
            };
            counters.count_over(latency, thresholds);
        }
    }

    /// The request went on to another endpoint.
    pub fn retried(&mut self, cluster: usize, drawn: &Drawn) {
        if let Some(counters) = self.counters(cluster, drawn).filter(|_| drawn.counted) {
            counters.retries += 1;
        }
    }

    /// So much of an answer's body has been sent to the client.
    pub fn sent(&mut self, cluster: usize, drawn: &Drawn, bytes: u64) {
        if let Some(counters) = self.counters(cluster, drawn).filter(|_| drawn.counted) {
            counters.bytes += bytes;
        }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "there are two arms, and an arm's index is below two"
    )]
    fn counters(&mut self, cluster: usize, drawn: &Drawn) -> Option<&mut ArmCounters> {
        let Cells(cells) = self.pairs.get_mut(cluster)?.get_mut(drawn.primary)?;
        let is_its = |cell: &Cell| cell.round == drawn.round && cell.limit == drawn.limit;
        let at = match cells.iter().position(is_its) {
            Some(at) => at,
            None if cells.len() >= CELLS_MAX => return None,
            None => {
                cells.push(Cell {
                    round: drawn.round,
                    limit: drawn.limit,
                    arms: [ArmCounters::default(); 2],
                });
                cells.len() - 1
            }
        };
        Some(&mut cells.get_mut(at)?.arms[drawn.arm.index()])
    }

    /// The cells of a primary.
    pub fn cells(&self, place: Place) -> &[Cell] {
        let cells = self
            .pairs
            .get(place.cluster)
            .and_then(|pairs| pairs.get(place.endpoint));
        cells.map_or(&[], |cells| &cells.0)
    }

    /// All primaries of which something was counted.
    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let clusters = self.pairs.iter().enumerate();
        clusters.flat_map(|(cluster, pairs)| {
            let counted = pairs.iter().enumerate().filter(|(_, cells)| !cells.0.is_empty());
            counted.map(move |(endpoint, _)| Place { cluster, endpoint })
        })
    }

    /// Goes on with other clusters and endpoints.
    pub fn reshape(&mut self, descent: &Descent) {
        self.pairs = descent.carry(std::mem::take(&mut self.pairs), Cells::default);
    }

    /// Empties the buffers and keeps their memory.
    pub fn clear(&mut self) {
        self.pairs.iter_mut().flatten().for_each(|cells| cells.0.clear());
        self.lost = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::topology::Topology;

    fn drawn(limit: u32, side: Side) -> Drawn {
        let text = "apiVersion: foreshade/v1\nlisteners: [{ name: web, address: 127.0.0.1:80, routes: [{ cluster: shop }] }]\n\
            clusters: [{ name: shop, endpoints: [{ name: a, address: 127.0.0.1:9001 }] }]\n";
        let topology = Topology::new(config::parse(text, "test").unwrap());
        let id = topology.endpoint_ids().next().unwrap();
        let trial = Trial {
            round: Round(3),
            serving: Arm::Primary,
            thresholds: None,
        };
        let draw = Draw {
            limit,
            position: 0,
            side,
        };
        Drawn::new(0, id, draw, &trial)
    }

    const THRESHOLDS: [Duration; 4] = [
        Duration::from_millis(1),
        Duration::from_millis(5),
        Duration::from_millis(20),
        Duration::from_millis(90),
    ];

    const PLACE: Place = Place {
        cluster: 0,
        endpoint: 0,
    };

    #[test]
    fn a_request_counts_once_by_its_draw_with_what_became_of_it() {
        let mut ledger = Ledger::new(&[1]);
        let mut request = drawn(7, Side::Shadow);
        ledger.retried(0, &request);
        assert!(
            ledger
                .cells(PLACE)
                .iter()
                .all(|cell| cell.arms.iter().all(ArmCounters::is_zero)),
            "nothing is known of it yet"
        );
        ledger.count(
            0,
            &mut request,
            Event::Served,
            Duration::from_millis(6),
            Some(&THRESHOLDS),
        );
        ledger.count(
            0,
            &mut request,
            Event::Reset,
            Duration::from_secs(9),
            Some(&THRESHOLDS),
        );
        ledger.retried(0, &request);
        ledger.sent(0, &request, 100);
        let [cell] = ledger.cells(PLACE) else {
            panic!("one probability")
        };
        assert_eq!((cell.round, cell.limit), (Round(3), 7));
        let expected = ArmCounters {
            requests: 1,
            reset: 1,
            over: [1, 1, 0, 0],
            retries: 1,
            bytes: 100,
            ..ArmCounters::default()
        };
        assert_eq!(cell.arms, [ArmCounters::default(), expected]);
    }

    #[test]
    fn a_timeout_is_over_every_threshold_however_soon_it_was_given_up() {
        let mut ledger = Ledger::new(&[1]);
        let mut request = drawn(7, Side::Primary);
        ledger.count(
            0,
            &mut request,
            Event::Timeout,
            Duration::from_millis(2),
            Some(&THRESHOLDS),
        );
        assert_eq!(ledger.cells(PLACE)[0].arms[0].over, [1; 4]);
    }

    #[test]
    fn every_probability_has_a_cell_and_there_are_not_too_many() {
        let mut ledger = Ledger::new(&[1]);
        for limit in (0..).take(CELLS_MAX + 3) {
            ledger.count(
                0,
                &mut drawn(limit, Side::Primary),
                Event::Served,
                Duration::ZERO,
                None,
            );
        }
        assert_eq!((ledger.cells(PLACE).len(), ledger.lost), (CELLS_MAX, 3));
        ledger.clear();
        assert_eq!((ledger.places().count(), ledger.lost), (0, 0));
    }

    #[test]
    fn a_request_whose_pair_is_gone_changes_nobodys_counters() {
        let mut ledger = Ledger::new(&[1]);
        let mut gone = drawn(7, Side::Primary);
        gone.primary = Place::GONE;
        ledger.count(0, &mut gone, Event::Served, Duration::ZERO, None);
        assert_eq!(ledger.places().count(), 0);
    }

    #[test]
    fn what_a_user_is_told_decides_whether_shedding_is_an_error() {
        assert_eq!(Event::of(Class::Shed, Some(503)), Event::Failed);
        assert_eq!(Event::of(Class::Shed, Some(429)), Event::Served);
        assert_eq!(Event::of(Class::Cancelled, None), Event::Served);
        assert_eq!(Event::of(Class::Refused, None), Event::Connect);
    }
}
