//! Pages for errors: what people see in place of one line, by status.
//!
//! A page changes what an answer says and nothing of what it means: status, `Retry-After` and all that counts are those
//! of the answer without it. It has no variables, so nobody can put anything into it. The route's pages are asked first,
//! then the listener's; in each a page for the very status goes before one for its class.
//!
//! Files are read with the configuration and not when something fails: that is when a disk should not be needed.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED, TRAILER, TRANSFER_ENCODING,
};

use super::Policy;
use super::compress::DIGESTS;
use crate::edit::Head;

/// Most pages of a listener or a route: they are walked for each error.
pub const PAGES_MAX: usize = 32;

/// Longest page, in bytes: each is kept in memory.
pub const PAGE_BYTES_MAX: u64 = 64 * 1024;

/// Which statuses a page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// This one, 400 to 599.
    Only(u16),
    /// All of a hundred: 4 or 5.
    Class(u16),
}

impl Status {
    /// Whether it is meant, by the very status or by its class.
    fn takes(self, status: u16, exactly: bool) -> bool {
        match self {
            Self::Only(only) => exactly && only == status,
            Self::Class(class) => !exactly && class == status / 100,
        }
    }
}

/// Whose answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Those that this proxy gives because there is no other.
    Proxy,
    /// Those of endpoints.
    Endpoints,
    /// All.
    Both,
}

/// Who has given an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Giver {
    /// This proxy.
    Proxy,
    /// An endpoint.
    Endpoint,
}

impl Of {
    fn takes(self, giver: Giver) -> bool {
        match self {
            Self::Proxy => giver == Giver::Proxy,
            Self::Endpoints => giver == Giver::Endpoint,
            Self::Both => true,
        }
    }
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// For which statuses.
    pub statuses: Vec<Status>,
    /// Of whose answers.
    pub of: Of,
    /// The file that it was read from.
    pub file: Option<PathBuf>,
    /// What it says.
    pub shown: Shown,
}

/// What a client sees of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The page.
    pub body: Bytes,
    /// Its media type.
    pub content_type: HeaderValue,
}

/// All pages of a listener or a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages(pub Vec<Page>);

impl Pages {
    fn find(&self, status: u16, giver: Giver) -> Option<&Shown> {
        let meant = |exactly| {
            let takes = move |page: &&Page| {
                page.of.takes(giver) && page.statuses.iter().any(|one| one.takes(status, exactly))
            };
            self.0.iter().find(takes)
        };
        meant(true).or_else(|| meant(false)).map(|page| &page.shown)
    }

    /// Whether some of them stand in for answers of endpoints.
    pub fn are_of_endpoints(&self) -> bool {
        self.0.iter().any(|page| page.of.takes(Giver::Endpoint))
    }

    /// In a line.
    pub fn in_words(&self) -> String {
        let one = |status: &Status| match status {
            Status::Only(status) => status.to_string(),
            Status::Class(class) => format!("{class}xx"),
        };
        let all: Vec<_> = self
            .0
            .iter()
            .flat_map(|page| page.statuses.iter().map(one))
            .collect();
        format!("has pages for {}", all.join(", "))
    }
}

/// Where pages for a request are looked for: with its route, and then with its listener.
#[derive(Clone, Debug, Default)]
pub struct Shelf([Option<Arc<Pages>>; 2]);

impl Shelf {
    /// That of a request with these policies.
    pub fn of(listener: Option<&Policy>, route: Option<&Policy>) -> Self {
        Self([route, listener].map(|policy| policy?.pages.clone()))
    }

    /// The page for an answer, if there is one.
    pub fn find(&self, status: u16, giver: Giver) -> Option<&Shown> {
        self.0
            .iter()
            .flatten()
            .find_map(|pages| pages.find(status, giver))
    }
}

impl Shown {
    /// Changes the head of an endpoint's answer to that of the page: what was about the other body goes.
    pub fn replace(&self, head: &mut impl Head) {
        for name in [
            ACCEPT_RANGES,
            CONTENT_DISPOSITION,
            CONTENT_ENCODING,
            CONTENT_LANGUAGE,
            CONTENT_LOCATION,
            CONTENT_RANGE,
            ETAG,
            EXPIRES,
            LAST_MODIFIED,
            TRAILER,
            TRANSFER_ENCODING,
        ]
        .iter()
        .chain(&DIGESTS)
        {
            head.remove(name);
        }
        head.set(&CONTENT_TYPE, self.content_type.clone());
        head.set(&CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        // Of one moment, like every error that this proxy tells.
        head.set(&CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    }
}

/// Reads a page.
///
/// # Errors
/// It cannot be read, or is too long.
pub fn read(path: &Path) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    if file.take(PAGE_BYTES_MAX + 1).read_to_end(&mut bytes)? as u64 > PAGE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(statuses: &[Status], of: Of, body: &'static str) -> Page {
        Page {
            statuses: statuses.to_vec(),
            of,
            file: None,
            shown: Shown {
                body: Bytes::from_static(body.as_bytes()),
                content_type: HeaderValue::from_static("text/html"),
            },
        }
    }

    #[test]
    fn the_route_goes_before_the_listener_and_the_status_before_its_class() {
        let route = Pages(vec![
            page(&[Status::Class(5)], Of::Proxy, "route 5xx"),
            page(&[Status::Only(503), Status::Only(404)], Of::Proxy, "route 503"),
        ]);
        let listener = Pages(vec![
            page(&[Status::Only(500)], Of::Both, "listener 500"),
            page(&[Status::Class(4)], Of::Both, "listener 4xx"),
        ]);
        let shelf = Shelf([Some(Arc::new(route)), Some(Arc::new(listener))]);
        let found = |status, giver| {
            let shown = shelf.find(status, giver)?;
            Some(std::str::from_utf8(&shown.body).unwrap())
        };
        for (status, of_proxy, of_endpoint) in [
            (503, Some("route 503"), None),
            (502, Some("route 5xx"), None),
            (500, Some("route 5xx"), Some("listener 500")),
            (404, Some("route 503"), Some("listener 4xx")),
            (429, Some("listener 4xx"), Some("listener 4xx")),
            (200, None, None),
            (304, None, None),
        ] {
            assert_eq!(found(status, Giver::Proxy), of_proxy, "{status}");
            assert_eq!(found(status, Giver::Endpoint), of_endpoint, "{status}");
        }
    }

    #[test]
    fn a_page_that_is_too_long_is_no_page() {
        let path = std::env::temp_dir().join(format!("foreshade-page-{}", std::process::id()));
        let length = usize::try_from(PAGE_BYTES_MAX).unwrap();
        std::fs::write(&path, vec![b'a'; length]).unwrap();
        assert_eq!(read(&path).unwrap().len(), length);
        std::fs::write(&path, vec![b'a'; length + 1]).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        std::fs::remove_file(&path).unwrap();
    }
}
