//! Which other sites may read a route's answers in their users' browsers. Source: the Fetch standard, section 3.3 (CORS
//! protocol).
//!
//! The proxy is the one who decides: a preflight is answered here and no endpoint sees it, and what an endpoint says about
//! other origins is taken out of its answers. A site that is not named gets the answer without a word, and its browser
//! keeps it from the page: CORS guards users of browsers, not endpoints. The answer to a site that is named says its name,
//! never `*` where credentials are allowed, and `Vary: Origin` wherever the answer depends on who asks, so that no cache
//! shows one site's answer to another.
//!
//! `null` is no origin here: every sandboxed frame has it.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::marks::Marks;
use crate::request::RequestView;
use crate::route::answer::Answer;

/// Most origins that one route names. They are walked.
pub const ORIGINS_MAX: usize = 256;

/// What an endpoint may not say for itself.
const DECIDED_HERE: [HeaderName; 3] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
];

/// Who may read, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Whose pages.
    pub origins: Origins,
    /// With which methods, beside those of a plain form.
    pub methods: Vec<String>,
    /// With which request headers, beside those of a plain form.
    pub headers: Vec<HeaderName>,
    /// Which headers of answers their pages may read.
    pub expose: Vec<HeaderName>,
    /// Whether browsers may send cookies and credentials along.
    pub credentials: bool,
    /// How long a browser may remember a preflight, in seconds.
    pub max_age_s: u64,
}

/// Whose pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Everybody's.
    Any,
    /// Of these.
    Listed(Vec<OriginMatch>),
}

/// An origin, or all below a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginMatch {
    /// Scheme with its `://`, in lower case.
    pub scheme: String,
    /// Whether it is every host below `host`, and not `host` itself.
    pub below: bool,
    /// Host in lower case, with a port where it is not the scheme's own.
    pub host: String,
}

impl OriginMatch {
    /// Whether it means this origin, as a browser writes it: in lower case, without the scheme's own port.
    fn takes(&self, origin: &[u8]) -> bool {
        let Some(host) = origin.strip_prefix(self.scheme.as_bytes()) else {
            return false;
        };
        if !self.below {
            return host == self.host.as_bytes();
        }
        let label = host
            .strip_suffix(self.host.as_bytes())
            .and_then(|rest| rest.strip_suffix(b"."));
        // A label or more, and nothing that would end a host before its end.
        label.is_some_and(|label| {
            let sound =
                |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(byte);
            !label.is_empty() && label.iter().all(sound)
        })
    }
}

impl Cors {
    /// What becomes of a request's answer, whoever gives it.
    pub fn mark(&self, view: &RequestView<'_>, marks: &mut Marks) {
        DECIDED_HERE.into_iter().for_each(|name| marks.remove(name));
        let allowed = self.allowed(view);
        if self.depends_on_the_origin() {
            marks.add(VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = allowed else { return };
        marks.set(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            marks.set(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(names) = listed(self.expose.iter().map(HeaderName::as_str)) {
            marks.set(ACCESS_CONTROL_EXPOSE_HEADERS, names);
        }
    }

    /// The answer to a preflight; `None` where the request is none.
    pub fn preflight(&self, view: &RequestView<'_>) -> Option<Answer> {
        let asked = view.header(&ACCESS_CONTROL_REQUEST_METHOD)?;
        if view.method != "OPTIONS" || !view.headers.contains(&ORIGIN) {
            return None;
        }
        let mut headers = HeaderMap::new();
        let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        headers.insert(VARY, HeaderValue::from_static(vary));
        let origin = self.allowed(view).filter(|_| self.grants(view, asked));
        let reason = match origin {
            None => "preflight_refused",
            Some(origin) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                self.write_grants(&mut headers);
                "preflight"
            }
        };
        Some(Answer {
            status: 204,
            headers,
            body: Bytes::new(),
            reason,
            refused: false,
            page: None,
        })
    }

    /// The value that lets the origin of a request read, if it may.
    fn allowed(&self, view: &RequestView<'_>) -> Option<HeaderValue> {
        let origin = view.headers.only(&ORIGIN)?;
        match &self.origins {
            Origins::Any => Some(HeaderValue::from_static("*")),
            Origins::Listed(listed) if listed.iter().any(|one| one.takes(origin)) => {
                HeaderValue::from_bytes(origin).ok()
            }
            Origins::Listed(_) => None,
        }
    }

    fn depends_on_the_origin(&self) -> bool {
        self.origins != Origins::Any
    }

    /// Whether a preflight asks for no more than is granted.
    fn grants(&self, view: &RequestView<'_>, method: &[u8]) -> bool {
        let granted = |name: &[u8]| {
            self.headers
                .iter()
                .any(|h| name.eq_ignore_ascii_case(h.as_str().as_bytes()))
        };
        let names = view.headers.all(&ACCESS_CONTROL_REQUEST_HEADERS);
        let mut names = names
            .flat_map(|line| line.split(|b| *b == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty());
        // Those of a plain form need no word. Source: Fetch, "CORS-safelisted method".
        let is_plain = matches!(method, b"GET" | b"HEAD" | b"POST");
        (is_plain || self.methods.iter().any(|one| one.as_bytes() == method)) && names.all(granted)
    }

    fn write_grants(&self, headers: &mut HeaderMap) {
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(methods) = listed(self.methods.iter().map(String::as_str)) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        if let Some(names) = listed(self.headers.iter().map(HeaderName::as_str)) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age_s));
    }

    /// In a line.
    pub fn in_words(&self) -> String {
        let origins = match &self.origins {
            Origins::Any => "every site".to_owned(),
            Origins::Listed(listed) => {
                let listed: Vec<_> = listed
                    .iter()
                    .map(|one| format!("{}{}{}", one.scheme, if one.below { "*." } else { "" }, one.host))
                    .collect();
                listed.join(", ")
            }
        };
        let with = if self.credentials {
            ", with credentials"
        } else {
            ""
        };
        format!("pages of {origins} may read the answers{with}")
    }
}

/// Some words as one value; `None` where there are none.
fn listed<'a>(words: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let words: Vec<_> = words.collect();
    if words.is_empty() {
        return None;
    }
    HeaderValue::try_from(words.join(", ")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(scheme: &str, below: bool, host: &str) -> OriginMatch {
        OriginMatch {
            scheme: scheme.to_owned(),
            below,
            host: host.to_owned(),
        }
    }

    fn cors() -> Cors {
        Cors {
            origins: Origins::Listed(vec![
                origin("https://", false, "shop.example"),
                origin("https://", true, "partner.example"),
                origin("http://", false, "localhost:3000"),
            ]),
            methods: vec!["PUT".to_owned()],
            headers: vec![HeaderName::from_static("x-api-key")],
            expose: vec![HeaderName::from_static("x-total")],
            credentials: true,
            max_age_s: 600,
        }
    }

    fn head(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut head = HeaderMap::new();
        for (name, value) in lines {
            head.append(*name, value.parse().unwrap());
        }
        head
    }

    /// The answer of an endpoint that would let everybody read, as the browser of a page of `origin` sees it.
    fn marked(cors: &Cors, origin: &[(&'static str, &str)]) -> HeaderMap {
        let came = head(origin);
        let mut marks = Marks::default();
        cors.mark(&RequestView::of("GET", &came), &mut marks);
        let mut answer = head(&[
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "true"),
            ("vary", "accept"),
        ]);
        marks.apply(&mut answer);
        answer
    }

    #[test]
    fn only_a_named_origin_may_read_whatever_the_endpoint_says() {
        for (origin, may) in [
            ("https://shop.example", true),
            ("https://a.partner.example", true),
            ("https://a.b.partner.example", true),
            ("http://localhost:3000", true),
            ("http://shop.example", false),
            ("https://shop.example:8443", false),
            ("https://shop.example.evil.example", false),
            ("https://partner.example", false),
            ("https://evilpartner.example", false),
            ("https://evil.example/.partner.example", false),
            ("https://evil.example:1.partner.example", false),
            ("https://@a.partner.example", false),
            ("https://.partner.example", false),
            ("http://localhost:30000", false),
            ("null", false),
        ] {
            let answer = marked(&cors(), &[("origin", origin)]);
            let allowed = answer.get("access-control-allow-origin");
            assert_eq!(
                allowed.map(|v| v.to_str().unwrap()),
                may.then_some(origin),
                "{origin}"
            );
            assert_eq!(
                answer.contains_key("access-control-allow-credentials"),
                may,
                "{origin}"
            );
            assert_eq!(
                answer.contains_key("access-control-expose-headers"),
                may,
                "{origin}"
            );
            assert_eq!(
                answer.get_all("vary").iter().collect::<Vec<_>>(),
                ["accept", "Origin"]
            );
        }
        let without = marked(&cors(), &[]);
        assert!(!without.contains_key("access-control-allow-origin"));
        assert_eq!(
            without.get_all("vary").iter().count(),
            2,
            "a cache has to know, too"
        );
        let twice = marked(
            &cors(),
            &[
                ("origin", "https://shop.example"),
                ("origin", "https://shop.example"),
            ],
        );
        assert!(!twice.contains_key("access-control-allow-origin"));
    }

    #[test]
    fn everybody_is_a_star_that_does_not_vary() {
        let cors = Cors {
            origins: Origins::Any,
            credentials: false,
            ..cors()
        };
        let answer = marked(&cors, &[("origin", "https://anybody.example")]);
        assert_eq!(answer["access-control-allow-origin"], "*");
        assert!(!answer.contains_key("access-control-allow-credentials"));
        assert_eq!(answer.get_all("vary").iter().count(), 1);
    }

    #[test]
    fn a_preflight_is_granted_what_is_allowed_and_nothing_else() {
        for (origin, method, headers, granted) in [
            ("https://shop.example", "PUT", "X-Api-Key", true),
            ("https://shop.example", "POST", "", true),
            ("https://shop.example", "DELETE", "", false),
            ("https://shop.example", "put", "", false),
            ("https://shop.example", "PUT", "x-api-key, x-other", false),
            ("https://evil.example", "PUT", "", false),
        ] {
            let came = head(&[
                ("origin", origin),
                ("access-control-request-method", method),
                ("access-control-request-headers", headers),
            ]);
            let answer = cors().preflight(&RequestView::of("OPTIONS", &came)).unwrap();
            let has = |name: &str| answer.headers.contains_key(name);
            assert_eq!(
                has("access-control-allow-origin"),
                granted,
                "{origin} {method} {headers}"
            );
            assert_eq!(
                has("access-control-allow-methods"),
                granted,
                "{origin} {method} {headers}"
            );
            assert_eq!(has("access-control-max-age"), granted);
            assert!(has("vary") && answer.status == 204);
        }
    }

    #[test]
    fn what_is_no_preflight_goes_on() {
        let plain = head(&[("origin", "https://shop.example")]);
        assert!(cors().preflight(&RequestView::of("OPTIONS", &plain)).is_none());
        let full = head(&[
            ("origin", "https://shop.example"),
            ("access-control-request-method", "PUT"),
        ]);
        assert!(cors().preflight(&RequestView::of("GET", &full)).is_none());
        let nobody = head(&[("access-control-request-method", "PUT")]);
        assert!(cors().preflight(&RequestView::of("OPTIONS", &nobody)).is_none());
    }
}
