//! The bytes of requests: what is the same for each path is written once, and only numbers are put in per request.
//!
//! At 60,000 requests per second formatting every head anew would take a tenth of the core. HTTP/2 has its own form of the
//! same ([`Requests::parts`]): there the headers are values that are shared and not bytes that are copied.

use bytes::{BufMut, Bytes};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use crate::load::mix::{Draw, Mix, USER_HEADER, has_body, writes};
use crate::wire::NUMBER_HEADER;

/// What every body is a piece of.
const FILL: u8 = b'x';

/// Users have four digits at least.
const USER_DIGITS: usize = 4;

/// A mix cannot be asked: what an HTTP message cannot say.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MixError {
    /// Not the name of a method.
    #[error("{0:?} is not a method")]
    Method(String),
    /// Not what a path may consist of.
    #[error("{0:?} is not a path: it must begin with `/` and hold no space")]
    Path(String),
    /// Not a host, or host and port.
    #[error("{0:?} is not the name of a server")]
    Authority(String),
    /// Not what a header may consist of.
    #[error("{0:?} is not a header")]
    Header(String),
    /// Nothing to ask for, or more than a record can name.
    #[error("{0} paths; there must be 1 to 256, and one of them with a weight above 0")]
    Paths(usize),
}

/// Requests of one mix, ready to be filled in.
pub(crate) struct Requests {
    /// By path: the head of a request of the mix's method, and that of a POST, up to and without the first header of its own.
    heads: Vec<[Vec<u8>; 2]>,
    /// The same for HTTP/2.
    uris: Vec<Uri>,
    methods: [Method; 2],
    /// Whether requests of these methods say how long their body is, and whether they may have an effect.
    bodies: [bool; 2],
    writes: [bool; 2],
    headers: HeaderMap,
    users: bool,
    filler: Bytes,
}

impl Requests {
    pub(crate) fn new(mix: &Mix, scheme: &Scheme) -> Result<Self, MixError> {
        if mix.paths.is_empty() || mix.paths.len() > 256 || !mix.paths.iter().any(|(_, weight)| *weight > 0.0)
        {
            return Err(MixError::Paths(mix.paths.len()));
        }
        let method =
            Method::from_bytes(mix.method.as_bytes()).map_err(|_| MixError::Method(mix.method.clone()))?;
        let authority = Authority::try_from(mix.authority.as_str())
            .map_err(|_| MixError::Authority(mix.authority.clone()))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &mix.headers {
            let broken = || MixError::Header(format!("{name}: {value}"));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| broken())?;
            headers.append(name, HeaderValue::from_str(value).map_err(|_| broken())?);
        }
        let (mut heads, mut uris) = (Vec::new(), Vec::new());
        for (path, _) in &mix.paths {
            let broken = || MixError::Path(path.clone());
            if !path.starts_with('/') {
                return Err(broken());
            }
            let path = PathAndQuery::try_from(path.as_str()).map_err(|_| broken())?;
            heads.push([method.as_str(), "POST"].map(|method| head(method, &path, &authority, &headers)));
            let uri = Uri::builder()
                .scheme(scheme.clone())
                .authority(authority.clone())
                .path_and_query(path);
            uris.push(uri.build().map_err(|_| broken())?);
        }
        // HTTP/2 names the server in `:authority`.
        headers.remove(http::header::HOST);
        Ok(Self {
            heads,
            uris,
            bodies: [has_body(method.as_str()), true],
            writes: [writes(method.as_str()), true],
            methods: [method, Method::POST],
            headers,
            users: mix.users > 0,
            filler: Bytes::from(vec![FILL; *mix.body_bytes.end() as usize]),
        })
    }

    /// Whether the answer has no body whatever its head says.
    pub(crate) fn head_only(&self, draw: Draw) -> bool {
        self.method(draw) == Method::HEAD
    }

    /// Whether it may have an effect.
    pub(crate) fn writes(&self, draw: Draw) -> bool {
        self.writes[usize::from(draw.post)]
    }

    fn method(&self, draw: Draw) -> &Method {
        let [usual, post] = &self.methods;
        if draw.post { post } else { usual }
    }

    /// The body, shared and not copied.
    pub(crate) fn body(&self, draw: Draw) -> Bytes {
        self.filler
            .slice(..(draw.body_bytes as usize).min(self.filler.len()))
    }

    /// Writes the head of an HTTP/1.1 request into `out`, replacing what it held.
    pub(crate) fn encode_head(&self, out: &mut Vec<u8>, draw: Draw, number: u64) {
        out.clear();
        let Some(heads) = self.heads.get(usize::from(draw.path)) else {
            return;
        };
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(&heads[usize::from(draw.post)]);
        if self.users {
            put(
                out,
                &[
                    USER_HEADER,
                    ": u",
                    padding(draw.user),
                    digits.format(draw.user),
                    "\r\n",
                ],
            );
        }
        put(out, &[NUMBER_HEADER, ": ", digits.format(number), "\r\n"]);
        if self.bodies[usize::from(draw.post)] {
            put(out, &["content-length: ", digits.format(draw.body_bytes), "\r\n"]);
        }
        out.put_slice(b"\r\n");
    }

    /// The head of an HTTP/2 request.
    pub(crate) fn parts(&self, draw: Draw, number: u64) -> Request<()> {
        let mut request = Request::new(());
        request.method_mut().clone_from(self.method(draw));
        if let Some(uri) = self.uris.get(usize::from(draw.path)) {
            request.uri_mut().clone_from(uri);
        }
        *request.version_mut() = http::Version::HTTP_2;
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        if self.users {
            let user = format!("u{}{}", padding(draw.user), draw.user);
            headers
                .extend(HeaderValue::try_from(user).map(|user| (HeaderName::from_static(USER_HEADER), user)));
        }
        headers.insert(HeaderName::from_static(NUMBER_HEADER), HeaderValue::from(number));
        if draw.body_bytes > 0 {
            headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(draw.body_bytes));
        }
        request
    }
}

fn head(method: &str, path: &PathAndQuery, authority: &Authority, headers: &HeaderMap) -> Vec<u8> {
    let mut head = Vec::new();
    put(&mut head, &[method, " ", path.as_str(), " HTTP/1.1\r\n"]);
    if !headers.contains_key(http::header::HOST) {
        put(&mut head, &["host: ", authority.as_str(), "\r\n"]);
    }
    for (name, value) in headers {
        put(&mut head, &[name.as_str(), ": "]);
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head
}

fn put(out: &mut Vec<u8>, pieces: &[&str]) {
    for piece in pieces {
        out.extend_from_slice(piece.as_bytes());
    }
}

fn padding(user: u32) -> &'static str {
    let digits = user.checked_ilog10().map_or(1, |log| log as usize + 1);
    "0000"
        .get(..USER_DIGITS.saturating_sub(digits))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAW: Draw = Draw {
        post: true,
        path: 0,
        user: 7,
        body_bytes: 14,
    };

    fn requests(mix: &Mix) -> Requests {
        Requests::new(mix, &Scheme::HTTP).unwrap()
    }

    fn encoded(mix: &Mix, draw: Draw) -> String {
        let mut bytes = Vec::new();
        requests(mix).encode_head(&mut bytes, draw, 99);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_is_encoded_is_what_an_endpoint_reads() {
        let mut bytes = encoded(&Mix::default(), DRAW).into_bytes();
        bytes.extend_from_slice(&requests(&Mix::default()).body(DRAW));
        let request = crate::wire::parse_request(&bytes).unwrap().unwrap();
        assert_eq!(
            (request.number, request.post, request.body.end),
            (Some(99), true, bytes.len())
        );
        assert_eq!(&bytes[request.path], b"/a");
    }

    #[test]
    fn a_head_says_what_the_mix_says() {
        let mix = Mix {
            headers: vec![("X-Flag".into(), "on".into())],
            ..Mix::default()
        };
        assert_eq!(
            encoded(
                &mix,
                Draw {
                    post: false,
                    path: 1,
                    user: 12_345,
                    body_bytes: 0
                }
            ),
            "GET /b HTTP/1.1\r\nhost: shop.example\r\nx-flag: on\r\nx-user: u12345\r\nx-request-number: 99\r\n\r\n"
        );
        let mix = Mix {
            method: "HEAD".into(),
            headers: vec![("host".into(), "other".into())],
            users: 0,
            ..Mix::default()
        };
        let draw = Draw {
            post: false,
            body_bytes: 0,
            ..DRAW
        };
        assert_eq!(
            encoded(&mix, draw),
            "HEAD /a HTTP/1.1\r\nhost: other\r\nx-request-number: 99\r\n\r\n"
        );
        assert!(requests(&mix).head_only(draw) && !requests(&mix).head_only(DRAW));
    }

    #[test]
    fn both_versions_of_http_say_the_same() {
        let request = requests(&Mix::default()).parts(DRAW, 99);
        assert_eq!(
            (request.method().as_str(), request.uri().to_string().as_str()),
            ("POST", "http://shop.example/a")
        );
        let header = |name: &str| request.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!(
            (
                header("x-user"),
                header("x-request-number"),
                header("content-length")
            ),
            ("u0007", "99", "14")
        );
    }

    #[test]
    fn what_http_cannot_say_is_refused_before_the_load() {
        let refused = |change: &dyn Fn(&mut Mix)| {
            let mut mix = Mix::default();
            change(&mut mix);
            Requests::new(&mix, &Scheme::HTTP)
                .err()
                .map(|error| error.to_string())
        };
        assert_eq!(refused(&|_| {}), None);
        let said = [
            refused(&|mix| mix.method = "GE T".into()),
            refused(&|mix| mix.paths = vec![("a b".into(), 1.0)]),
            refused(&|mix| mix.authority = "a b".into()),
            refused(&|mix| mix.headers = vec![("a".into(), "b\r\nc".into())]),
            refused(&|mix| mix.paths = vec![("/a".into(), 0.0)]),
        ];
        assert!(said.iter().all(Option::is_some), "{said:?}");
    }
}
