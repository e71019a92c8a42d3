//! A request that has to wait before it may go on, and what it has behind it when it is asked again.
//!
//! The policy decides without waiting, because both engines and the tests call it; so an engine that gets a [`Wait`] waits
//! for it, and asks for the request again with what comes of it. Nothing that was passed is passed twice: no limit of a
//! rate is used up again, and no place is given back. Everything else is asked again, as of then: a configuration may have
//! been replaced meanwhile.

use std::sync::Arc;

use foreshade_engine::moment::Moment;
use tokio::sync::oneshot;

use super::authorize::{Authorize, Grant, Question};
use super::basic::{Basic, Proof, Verdict};
use super::faults::Delay;
use super::gate::{Pass, Turned, Waiting};
use super::marks::Marks;
use super::pages::Shelf;
use super::{Denial, Findings, Reason};

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
    /// Who sends it, and who made sure of that: the listener's policy, and the route's.
    pub(crate) proven: Vec<(Arc<Basic>, Arc<str>)>,
    /// What those have said who were asked whether it may go on.
    pub(crate) words: Vec<(Arc<Authorize>, Grant)>,
    /// It has waited for the keys of those who sign tokens.
    pub(crate) keys_read: bool,
    /// Whether a drill delays it has been drawn, and whether it answers it.
    pub(crate) delay_drawn: bool,
    pub(crate) abort_drawn: bool,
    /// What changes in the request, as of the last time that it was asked.
    pub(crate) asks: Marks,
    /// It waited in vain.
    pub(crate) refused: Option<Box<Denial>>,
    /// Where pages for its errors are looked for, as of the last time that it was asked.
    pub(crate) shelf: Shelf,
}

/// A request that waits.
#[derive(Debug)]
pub struct Wait {
    pub(crate) cleared: Cleared,
    pub(crate) until: Until,
}

/// What a request waits for.
#[derive(Debug)]
pub enum Until {
    /// Its turn at one of the gates.
    Turn(usize, Waiting),
    /// Whether it is known who sends it.
    Proof(Box<Proof>),
    /// Keys that are being read.
    Keys(oneshot::Receiver<()>),
    /// The word of who is asked whether it may go on.
    Word(Box<Question>),
    /// The end of a delay that is made on purpose.
    Drill(Delay),
}

impl Cleared {
    /// It waited in vain.
    fn refuse(&mut self, denial: Denial) {
        self.refused = Some(Box::new(denial));
    }
}

impl Wait {
    /// Waits until the request can be asked again.
    pub async fn over(self) -> Cleared {
        let mut cleared = self.cleared;
        match self.until {
            Until::Turn(gate, waiting) => match waiting.turn().await {
                Ok(pass) => {
                    if let Some(place) = cleared.passes.get_mut(gate) {
                        *place = Some(pass);
                    }
                }
                Err(Turned::TooLong) => cleared.refuse(Denial::of(Reason::WaitedTooLong).come_back_in(1)),
                Err(Turned::Shed) => cleared.refuse(Denial::of(Reason::Shed).come_back_in(1)),
            },
            Until::Keys(read) => {
                // Read or not: it is told when it asks again.
                let _ = read.await;
                cleared.keys_read = true;
            }
            Until::Drill(delay) => delay.over().await,
            Until::Word(question) => {
                let (by, said) = question.answer().await;
                cleared.findings.note_word(said.label);
                match said.grant {
                    Ok(grant) => cleared.words.push((by, grant)),
                    Err(denial) => cleared.refuse(*denial),
                }
            }
            Until::Proof(proof) => {
                let (basic, verdict) = proof.verdict().await;
                match verdict {
                    Verdict::Right(user) => cleared.proven.push((basic, user)),
                    Verdict::Wrong => cleared.refuse(basic.challenge()),
                    Verdict::Unknown => {
                        cleared.refuse(Denial::of(Reason::LoginUnavailable).come_back_in(1));
                    }
                }
            }
        }
        cleared
    }
}
