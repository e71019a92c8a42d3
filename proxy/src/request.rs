//! A request as the policy sees it: borrowed, and the same whichever engine read it from the wire.

use std::net::IpAddr;

use http::HeaderName;
use http::header::COOKIE;

use crate::fields::Fields;
use crate::tls::Agreed;
use crate::trace::MadeId;

/// Head of a request, and who sent it.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// Method, as on the wire.
    pub method: &'a str,
    /// Host or authority, possibly with a port; empty where the request names none.
    pub host: &'a str,
    /// Path in its normal form, without query.
    pub path: &'a str,
    /// Query, without its question mark.
    pub query: Option<&'a str>,
    /// Scheme that the user speaks.
    pub scheme: &'static str,
    /// All headers.
    pub headers: Fields<'a>,
    /// The user's address, as far as proxies before this one can be believed.
    pub client: Option<IpAddr>,
    /// What was agreed on with whoever holds the connection; `None` in the clear, or where nothing is asked of it.
    pub tls: Option<&'a Agreed>,
    /// The name that was made for it, if one was.
    pub made_id: Option<&'a MadeId>,
}

impl<'a> RequestView<'a> {
    /// A request for `/` of nobody in particular.
    pub fn of(method: &'a str, headers: impl Into<Fields<'a>>) -> Self {
        Self {
            method,
            host: "",
            path: "/",
            query: None,
            scheme: "http",
            headers: headers.into(),
            client: None,
            tls: None,
            made_id: None,
        }
    }

    /// The bytes of a header's first value.
    pub fn header(&self, name: &HeaderName) -> Option<&'a [u8]> {
        self.headers.get(name)
    }

    /// The bytes of a cookie's first value. Source: RFC 6265 section 4.2.1; quotes are part of the value.
    pub fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        self.headers
            .all(&COOKIE)
            .flat_map(|line| line.split(|b| *b == b';'))
            .find_map(|pair| {
                let pair = pair.trim_ascii_start();
                let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
                Some(value.trim_ascii_end())
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    #[test]
    fn a_cookie_is_found_by_its_whole_name_in_any_line() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "xsid=no; sid=yes ; other=1".parse().unwrap());
        headers.append(COOKIE, "late=2".parse().unwrap());
        let view = RequestView::of("GET", &headers);
        assert_eq!(view.cookie("sid"), Some(&b"yes"[..]));
        assert_eq!(view.cookie("late"), Some(&b"2"[..]));
        assert_eq!(view.cookie("si"), None);
    }
}
