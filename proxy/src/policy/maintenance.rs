//! Closed for a while: everybody is told so, but for those who work on it.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderValue;
use http::header::CONTENT_TYPE;

use super::{Denial, Reason};
use crate::cidr::{Cidr, any_contains};

/// What users are told instead of being served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// The page.
    pub body: String,
    /// Its media type.
    pub content_type: String,
    /// When to come back.
    pub retry_after: Duration,
    /// Who is served all the same.
    pub except: Vec<Cidr>,
}

impl Maintenance {
    /// Whether a client is served all the same.
    pub fn spares(&self, client: Option<IpAddr>) -> bool {
        client.is_some_and(|client| any_contains(&self.except, client))
    }

    /// What he is told otherwise.
    pub fn denial(&self) -> Denial {
        let seconds = self.retry_after.as_secs().max(1);
        let mut denial = Denial::of(Reason::Maintenance).come_back_in(seconds);
        if let Ok(value) = HeaderValue::from_str(&self.content_type) {
            denial.headers.insert(CONTENT_TYPE, value);
        }
        denial.body = Some(self.body.as_bytes().into());
        denial
    }

    /// In a line.
    pub fn in_words(&self) -> String {
        let except: Vec<_> = self.except.iter().map(Cidr::to_string).collect();
        match except.is_empty() {
            true => "closed for maintenance".to_owned(),
            false => format!("closed for maintenance, but for {}", except.join(", ")),
        }
    }
}
