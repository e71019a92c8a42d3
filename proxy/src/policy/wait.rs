//! A request that has to wait before it may go on, and what it has behind it when it is asked again.
//!
//! The policy decides without waiting, because both engines and the tests call it; so an engine that gets a [`Wait`] waits
//! for it, and asks for the request again with what comes of it. Nothing that was passed is passed twice: no limit of a
//! rate is used up again, and no place is given back. Everything else is asked again, as of then: a configuration may have
//! been replaced meanwhile.

use foreshade_engine::moment::Moment;

use super::gate::{Pass, Turned, Waiting};
use super::marks::Marks;
use super::{Findings, Reason};

/// Gates on a request's way: its route's, and its cluster's.
pub const GATES: usize = 2;

/// What a request has behind it.
#[derive(Debug, Default)]
pub struct Cleared {
    /// When it came.
    pub(crate) arrived: Option<Moment>,
    /// Whether limits of rates have been asked: the listener's, and the route's.
    pub(crate) rated: [bool; 2],
    /// What is known of it so far.
    pub(crate) findings: Findings,
    /// What changes in its answer, as of the last time that it was asked.
    pub(crate) marks: Marks,
    /// Gates that it is through.
    pub(crate) passes: [Option<Pass>; GATES],
    /// It waited in vain.
    pub(crate) refused: Option<Reason>,
}

/// A request that waits.
#[derive(Debug)]
pub struct Wait {
    pub(crate) cleared: Cleared,
    /// Which of the gates it is.
    pub(crate) gate: usize,
    pub(crate) waiting: Waiting,
}

impl Wait {
    /// Waits until the request can be asked again.
    pub async fn over(self) -> Cleared {
        let mut cleared = self.cleared;
        match self.waiting.turn().await {
            Ok(pass) => {
                if let Some(place) = cleared.passes.get_mut(self.gate) {
                    *place = Some(pass);
                }
            }
            Err(Turned::TooLong) => cleared.refused = Some(Reason::WaitedTooLong),
            Err(Turned::Shed) => cleared.refused = Some(Reason::Shed),
        }
        cleared
    }
}
