//! Why a policy refuses a request, and what the client is told: in one table.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};

use crate::route::answer::Answer;

/// Declares the reasons: name, status, label, and what the client is told.
macro_rules! reasons {
    ($($name:ident $status:literal $label:literal: $sentence:literal;)+) => {
        /// Why a policy refuses a request. A closed set: it labels `foreshade_policy_refused_total`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = concat!("So that the client is told: ", $sentence, ".")] $name,)+
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            fn told(self) -> (u16, &'static str, &'static str) {
                match self {
                    $(Self::$name => ($status, $label, $sentence),)+
                }
            }
        }
    };
}

reasons! {
    AddressDenied 403 "address_denied": "requests from this address are not served here";
    Maintenance 503 "maintenance": "closed for maintenance";
    Busy 503 "busy": "there are too many requests under way";
    WaitedTooLong 503 "waited_too_long": "there are too many requests under way";
    Shed 503 "shed": "there are too many requests under way that matter more";
    Unauthorized 401 "unauthorized": "a name and a password are asked for here";
    TokenRefused 401 "token_refused": "the token is not accepted here";
    TooManyAttempts 429 "too_many_attempts": "there were too many wrong passwords from this address";
    LoginBusy 503 "login_busy": "there are too many logins at a time";
    LoginUnavailable 503 "login_unavailable": "nobody can log in now";
    CertificateMissing 403 "certificate_missing": "a client certificate is asked for here";
    CertificateDenied 403 "certificate_denied": "this client certificate is not let in here";
    Misdirected 421 "misdirected": "connect again under this name, where a client certificate is asked for";
    NotAuthorized 403 "not_authorized": "this is not allowed";
    AuthorizationBusy 503 "authorization_busy": "nobody can say now whether this is allowed";
    AuthorizationUnavailable 503 "authorization_unavailable": "nobody can say now whether this is allowed";
    FaultAbort 503 "fault_abort": "this is a drill, and the error is made on purpose";
    RateLimited 429 "rate_limited": "there are too many requests";
}

impl Reason {
    /// The status that says it.
    pub fn status(self) -> u16 {
        self.told().0
    }

    /// The label in metrics and in the access log.
    pub fn label(self) -> &'static str {
        self.told().1
    }

    /// What the client is told.
    pub fn sentence(self) -> &'static str {
        self.told().2
    }
}

/// A refusal with all that goes with it.
#[derive(Debug)]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// The reason's status, or that of whoever was asked.
    pub status: u16,
    /// What else the client is told.
    pub headers: HeaderMap,
    /// What the client is told instead of the reason's sentence.
    pub body: Option<Box<[u8]>>,
}

impl Denial {
    /// A refusal that says no more than why.
    pub fn of(reason: Reason) -> Self {
        let headers = HeaderMap::from_iter([
            (
                CONTENT_TYPE,
                HeaderValue::from_static("text/plain; charset=utf-8"),
            ),
            // It says how things are for one client at this moment.
            (CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
        ]);
        Self {
            reason,
            status: reason.status(),
            headers,
            body: None,
        }
    }

    /// The same, and the client is told when to come back.
    #[must_use]
    pub fn come_back_in(mut self, seconds: u64) -> Self {
        self.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        self
    }
}

impl From<Denial> for Answer {
    fn from(denial: Denial) -> Self {
        let sentence = || format!("foreshade: {}\n", denial.reason.sentence()).into();
        Self {
            status: denial.status,
            headers: denial.headers,
            body: denial.body.map_or_else(sentence, Bytes::from),
            reason: denial.reason.label(),
            refused: true,
            page: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_reason_has_a_label_of_its_own_and_stands_in_the_documents() {
        let labels: HashSet<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        let document = include_str!("../../../docs/policy.md");
        for reason in Reason::ALL {
            let row = format!("| `{}` | {} |", reason.label(), reason.status());
            assert!(document.contains(&row), "docs/policy.md has no row {row}");
        }
    }
}
