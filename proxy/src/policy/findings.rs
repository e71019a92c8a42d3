//! What policies have found out about a request on its way through them: what clients and counters are told.

use arrayvec::ArrayVec;
use http::{HeaderName, HeaderValue};

use super::marks::Marks;
use super::rate::{RateLimit, Standing};
use super::{Denial, Reason};

/// Sources of both names: draft-ietf-httpapi-ratelimit-headers-09, sections 3 and 4.
static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What has been found out so far.
#[derive(Debug, Default)]
pub struct Findings {
    /// Limits that would have refused it, had they not been told to count only.
    pub spared: u64,
    /// Keys that a limit had to forget for it.
    pub forgotten_keys: u64,
    /// What those have said who were asked whether it may go on: the listener's, and the route's.
    pub authorized: ArrayVec<&'static str, 2>,
    /// Faults that were made on purpose: a delay, or what was too many of them, and an answer.
    pub faults: ArrayVec<&'static str, 2>,
    /// The values of the two fields; empty where nobody is told.
    policies: String,
    standings: String,
}

impl Findings {
    /// Takes note of what was said of it by who is asked whether it may go on. After a reload in the middle of its way
    /// others may have been asked again: those are not counted.
    pub(super) fn note_word(&mut self, label: &'static str) {
        let _ = self.authorized.try_push(label);
    }

    /// Takes note of what a limit says.
    ///
    /// # Errors
    /// It refuses the request.
    pub(super) fn hear(&mut self, limit: &RateLimit, standing: &Standing) -> Result<(), Denial> {
        self.forgotten_keys += u64::from(standing.forgot);
        let says = limit.limit();
        if says.tells && !says.dry_run {
            limit.write_policy(&mut self.policies);
            limit.write_standing(standing, &mut self.standings);
        }
        if standing.within {
            return Ok(());
        }
        if says.dry_run {
            self.spared += 1;
            return Ok(());
        }
        Err(Denial::of(Reason::RateLimited).come_back_in(standing.again_in_s.max(1)))
    }

    /// What changes in the answer.
    pub fn mark(&self, marks: &mut Marks) {
        for (name, value) in [
            (&RATE_LIMIT_POLICY, &self.policies),
            (&RATE_LIMIT, &self.standings),
        ] {
            // Both are lists: an endpoint's own limits stay beside these.
            if let Some(value) = HeaderValue::from_str(value)
                .ok()
                .filter(|value| !value.is_empty())
            {
                marks.add(name.clone(), value);
            }
        }
    }
}
