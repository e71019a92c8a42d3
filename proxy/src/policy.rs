//! What a listener and a route ask of a request before it goes anywhere: who may ask, how often, how many at
//! once, by whose pages, with which certificate, with which password, and with whose token.
//!
//! A listener's policy is asked first and holds for whatever it hears, requests without a route included; then the
//! route's. What is refused is answered here with a sentence, counted by its [`Reason`], and reaches no endpoint. Both
//! engines come through [`Worker::admit`](crate::worker::Worker::admit), so a policy holds whichever serves the request;
//! what only one of them can do, the other hands over ([`Policy::is_plain`]).
//!
//! What cannot be decided is decided against the request: a client whose address is not known is in no list.

pub mod access;
mod aside;
pub mod authorize;
pub mod basic;
mod buckets;
mod carry;
pub mod certificate;
pub mod compress;
pub mod cors;
pub mod faults;
mod findings;
mod followed;
pub mod gate;
pub mod jwks;
pub mod jwt;
pub mod maintenance;
pub mod marks;
pub mod pages;
mod policed;
pub mod rate;
mod reason;
pub mod sticky;
pub mod users;
mod wait;

use std::sync::Arc;

use foreshade_engine::moment::Moment;
use http::HeaderName;

use crate::request::RequestView;
use crate::route::answer::Answer;

pub use self::access::Access;
use self::authorize::{Authorize, Word};
use self::basic::{Asked, Basic};
pub(crate) use self::carry::{carry_over, issuers, share_keys};
use self::certificate::Certificate;
use self::compress::Compress;
use self::cors::Cors;
use self::faults::{Fault, Faults};
pub use self::findings::Findings;
pub use self::gate::{Gate, Priority};
use self::jwt::{Jwt, Token};
use self::maintenance::Maintenance;
use self::marks::Marks;
use self::pages::Pages;
pub use self::policed::Policed;
pub use self::rate::RateLimit;
pub use self::reason::{Denial, Reason};
pub use self::wait::{Cleared, GATES, Until, Wait};

/// What is asked of each request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Whose requests are let in; everybody's where `None`.
    pub access: Option<Access>,
    /// How often; asked in their order. Shared by all workers.
    pub rates: Vec<Arc<RateLimit>>,
    /// How many at once. Shared by all workers.
    pub gate: Option<Arc<Gate>>,
    /// How much its requests matter at a gate.
    pub class: Class,
    /// It is closed for a while.
    pub maintenance: Option<Maintenance>,
    /// Whose pages may read its answers; endpoints decide where `None`.
    pub cors: Option<Cors>,
    /// Whose certificates it asks for; nobody's where `None`.
    pub certificate: Option<Certificate>,
    /// Whom it asks to log in; nobody where `None`. Shared by all workers.
    pub basic: Option<Arc<Basic>>,
    /// Whose tokens it asks for; nobody's where `None`. Shared by all workers.
    pub jwt: Option<Arc<Jwt>>,
    /// Who is asked whether a request may go on; nobody where `None`. Shared by all workers.
    pub authorize: Option<Arc<Authorize>>,
    /// What is done to its requests in a drill; nothing where `None`. Shared by all workers.
    pub faults: Option<Arc<Faults>>,
    /// How answers are compressed; as the listener says, or not at all, where `None`.
    pub compress: Option<Compress>,
    /// Pages for errors; one line where `None`, and the listener has none either.
    pub pages: Option<Arc<Pages>>,
}

/// Why a request does not go on.
#[derive(Debug)]
pub enum Held {
    /// It is refused.
    Denied(Box<Denial>),
    /// Somebody has to find out first who sends it.
    Waits(Until),
}

/// How much requests matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// All the same.
    Fixed(Priority),
    /// As this header says: low, normal or high; normal where it says anything else.
    Header(HeaderName),
}

impl Default for Class {
    fn default() -> Self {
        Self::Fixed(Priority::Normal)
    }
}

impl Class {
    /// How much a request matters.
    pub fn of(&self, view: &RequestView<'_>) -> Priority {
        match self {
            Self::Fixed(priority) => *priority,
            Self::Header(name) => match view.header(name) {
                Some(word) if word.eq_ignore_ascii_case(b"low") => Priority::Low,
                Some(word) if word.eq_ignore_ascii_case(b"high") => Priority::High,
                Some(_) | None => Priority::Normal,
            },
        }
    }
}

impl Policy {
    /// Asks a request everything that can be said at once, and takes note of what is to be told. `at` says whose policy it
    /// is: 0 the listener's, 1 the route's.
    ///
    /// # Errors
    /// Why it goes no further.
    pub fn weigh(
        &self,
        view: &RequestView<'_>,
        now: Moment,
        at: usize,
        cleared: &mut Cleared,
    ) -> Result<(), Denial> {
        if let Some(denial) = self.denies(view) {
            return Err(denial);
        }
        let asked = cleared
            .rated
            .get_mut(at)
            .map(|rated| std::mem::replace(rated, true));
        if asked == Some(false) {
            for limit in &self.rates {
                cleared.findings.hear(limit, &limit.take(view, now))?;
            }
        }
        Ok(())
    }

    /// What changes in the answer to a request, whoever gives it.
    pub fn mark(&self, view: &RequestView<'_>, marks: &mut Marks) {
        if let Some(cors) = &self.cors {
            cors.mark(view, marks);
        }
    }

    /// The answer to a browser that asks what a page may ask for; `None` for any other request.
    pub fn preflight(&self, view: &RequestView<'_>) -> Option<Answer> {
        self.cors.as_ref()?.preflight(view)
    }

    /// Makes sure of who sends a request, if that is asked for.
    ///
    /// # Errors
    /// Nobody who may come in, or it has to be found out.
    pub fn prove(&self, view: &RequestView<'_>, now: Moment, cleared: &mut Cleared) -> Result<(), Held> {
        if let Some(denial) = self.certificate.as_ref().and_then(|asked| asked.denies(view)) {
            return Err(Held::Denied(Box::new(denial)));
        }
        if let Some(basic) = &self.basic {
            known(basic, view, now, cleared)?;
        }
        if let Some(jwt) = &self.jwt {
            match jwt.ask(view, now, cleared.keys_read) {
                Token::Says(claims) => jwt.mark(&claims, view.headers, &mut cleared.asks),
                Token::Denied(denial) => return Err(Held::Denied(Box::new(denial))),
                Token::Waits(read) => return Err(Held::Waits(Until::Keys(read))),
            }
        }
        if let Some(authorize) = &self.authorize {
            allowed(authorize, view, now, cleared)?;
        }
        Ok(())
    }

    /// Makes the faults of a drill, once for each request.
    ///
    /// # Errors
    /// It waits, or is answered with an error.
    pub fn drill(&self, view: &RequestView<'_>, cleared: &mut Cleared) -> Result<(), Held> {
        let Some(faults) = &self.faults else {
            return Ok(());
        };
        if !std::mem::replace(&mut cleared.delay_drawn, true) {
            match faults.delays(view) {
                Fault::Delay(delay) => {
                    cleared.findings.faults.push("delay");
                    return Err(Held::Waits(Until::Drill(delay)));
                }
                Fault::Crowded => cleared.findings.faults.push("crowded"),
                Fault::None => {}
            }
        }
        if !std::mem::replace(&mut cleared.abort_drawn, true)
            && let Some(denial) = faults.aborts(view)
        {
            cleared.findings.faults.push("abort");
            return Err(Held::Denied(Box::new(denial)));
        }
        Ok(())
    }

    /// Why it would refuse a request whenever that comes; nothing is used up by asking.
    pub fn denies(&self, view: &RequestView<'_>) -> Option<Denial> {
        if self
            .access
            .as_ref()
            .is_some_and(|access| !access.lets_in(view.client))
        {
            return Some(Denial::of(Reason::AddressDenied));
        }
        let maintenance = self.maintenance.as_ref()?;
        (!maintenance.spares(view.client)).then(|| maintenance.denial())
    }

    /// Whether it counts and changes nothing: it lets a request in or refuses it, which any engine can tell, and no answer of
    /// an endpoint becomes another. Answers that may be compressed are asked for beside it ([`compress::rule`]).
    pub fn is_plain(&self) -> bool {
        self.rates.is_empty()
            && self.gate.is_none()
            && self.cors.is_none()
            && self.basic.is_none()
            && self.jwt.is_none()
            && self.authorize.is_none()
            && self.faults.is_none()
            && !self.pages.as_ref().is_some_and(|pages| pages.are_of_endpoints())
    }

    /// What it asks, a line each.
    pub fn in_words(&self) -> Vec<String> {
        let access = self.access.iter().map(Access::in_words);
        let rates = self.rates.iter().map(|limit| limit.in_words());
        let gate = self.gate.iter().map(|gate| gate.in_words());
        let maintenance = self.maintenance.iter().map(Maintenance::in_words);
        let cors = self.cors.iter().map(Cors::in_words);
        let asked = access.chain(maintenance).chain(rates);
        let certificate = self.certificate.iter().map(Certificate::in_words);
        let basic = self.basic.iter().map(|basic| basic.in_words());
        let jwt = self.jwt.iter().map(|jwt| jwt.in_words());
        let authorize = self.authorize.iter().map(|authorize| authorize.in_words());
        let proven = certificate.chain(basic).chain(jwt).chain(authorize);
        let pages = self.pages.iter().map(|pages| pages.in_words());
        let faults = self.faults.iter().map(|faults| faults.in_words());
        asked
            .chain(cors)
            .chain(proven)
            .chain(faults)
            .chain(gate)
            .chain(pages)
            .collect()
    }
}

/// Makes sure that a request comes from a user.
fn known(basic: &Arc<Basic>, view: &RequestView<'_>, now: Moment, cleared: &mut Cleared) -> Result<(), Held> {
    let proven = cleared.proven.iter().find(|(by, _)| Arc::ptr_eq(by, basic));
    let user = match proven.map(|(_, user)| user.clone()) {
        Some(user) => user,
        None => match basic.ask(view, now) {
            Asked::User(user) => user,
            Asked::Denied(denial) => return Err(Held::Denied(Box::new(denial))),
            Asked::Waits(proof) => return Err(Held::Waits(Until::Proof(Box::new(proof)))),
        },
    };
    basic.mark(&user, view.headers, &mut cleared.asks);
    Ok(())
}

/// Makes sure that whoever is asked lets a request on.
fn allowed(
    by: &Arc<Authorize>,
    view: &RequestView<'_>,
    now: Moment,
    cleared: &mut Cleared,
) -> Result<(), Held> {
    let said = cleared.words.iter().find(|(who, _)| Arc::ptr_eq(who, by));
    let grant = match said {
        Some((_, grant)) => grant.clone(),
        None => match by.ask(view, now) {
            Word::Known(grant) => {
                // Like what was said when somebody was asked, it holds for the whole request.
                cleared.findings.note_word("cached");
                cleared.words.push((by.clone(), grant.clone()));
                grant
            }
            Word::Waits(question) => return Err(Held::Waits(Until::Word(question))),
        },
    };
    by.mark(&grant, view.headers, &mut cleared.asks);
    Ok(())
}
