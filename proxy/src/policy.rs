//! What a listener and a route ask of a request before it goes anywhere: who may ask, and how often.
//!
//! A listener's policy is asked first and holds for whatever it hears, requests without a route included; then the
//! route's. What is refused is answered here with a sentence, counted by its [`Reason`], and reaches no endpoint. Both
//! engines come through [`Worker::admit`](crate::worker::Worker::admit), so a policy holds whichever serves the request;
//! what only one of them can do, the other hands over ([`Policy::is_plain`]).
//!
//! What cannot be decided is decided against the request: a client whose address is not known is in no list.

pub mod access;
mod buckets;
mod carry;
mod findings;
pub mod marks;
mod policed;
pub mod rate;
mod reason;

use std::sync::Arc;

use foreshade_engine::moment::Moment;

use crate::request::RequestView;

pub use self::access::Access;
pub(crate) use self::carry::carry_over;
pub use self::findings::Findings;
pub use self::policed::Policed;
pub use self::rate::RateLimit;
pub use self::reason::{Denial, Reason};

/// What is asked of each request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Whose requests are let in; everybody's where `None`.
    pub access: Option<Access>,
    /// How often; asked in their order. Shared by all workers.
    pub rates: Vec<Arc<RateLimit>>,
}

impl Policy {
    /// Asks a request everything, and takes note of what is to be told.
    ///
    /// # Errors
    /// Why it goes no further.
    pub fn weigh(&self, view: &RequestView<'_>, now: Moment, findings: &mut Findings) -> Result<(), Denial> {
        if let Some(reason) = self.denies(view) {
            return Err(Denial::of(reason));
        }
        for limit in &self.rates {
            findings.hear(limit, &limit.take(view, now))?;
        }
        Ok(())
    }

    /// Why it would refuse a request whenever that comes; nothing is used up by asking.
    pub fn denies(&self, view: &RequestView<'_>) -> Option<Reason> {
        let access = self.access.as_ref();
        access
            .is_some_and(|access| !access.lets_in(view.client))
            .then_some(Reason::AddressDenied)
    }

    /// Whether a request passes without anything being counted or changed, so that it can be asked again.
    pub fn is_plain(&self, view: &RequestView<'_>) -> bool {
        self.rates.is_empty() && self.denies(view).is_none()
    }

    /// What it asks, a line each.
    pub fn in_words(&self) -> Vec<String> {
        let access = self.access.iter().map(Access::in_words);
        access
            .chain(self.rates.iter().map(|limit| limit.in_words()))
            .collect()
    }
}
