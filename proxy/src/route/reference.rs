//! A matcher that is obviously right: it walks all routes and keeps the most specific of those that match.

use std::time::Duration;

use foreshade_engine::failover::ServerErrors;

use super::split::Split;
use super::{Action, HostMatch, Match, PathMatch, Route, plain_host};
use crate::request::RequestView;

/// The route of a request. Of equals the first in the file.
pub(super) fn by_walking<'a>(routes: &'a [Route], view: &RequestView<'_>) -> Option<&'a Route> {
    let host = plain_host(view.host);
    routes
        .iter()
        .filter(|route| route.matches.lacks(&host, view).is_none())
        .min_by_key(|route| (route.matches.rank(), route.line))
}

/// A match that takes every path.
pub(super) fn plain() -> Match {
    Match {
        host: HostMatch::Any,
        path: PathMatch::Prefix("/".to_owned()),
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
        source: Vec::new(),
    }
}

/// A route that begins in this line.
pub(super) fn route(line: usize, matches: Match) -> Route {
    Route {
        name: None,
        line,
        matches,
        action: Action::Forward(Split::one(0)),
        edits: None,
        timeout: Duration::from_secs(15),
        attempts_max: 1,
        retry_on: ServerErrors::NONE,
        idempotent: false,
        mirror: None,
        policy: None,
        server_timing: false,
    }
}
