//! The ways of a request through the proxy: HTTP/1.1 by the relay and by the full path, and HTTP/2. What a policy promises
//! holds on each of them.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use foreshade_tests::proxy::{PATIENCE, Proxy, preamble};
use foreshade_tests::wire::{connect, unchunked};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// How a request comes, and which engine serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// HTTP/1.1, and whatever the relay can do is done there.
    Relay,
    /// HTTP/1.1 without a relay.
    Full,
    /// HTTP/2.
    Http2,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Relay, Self::Full, Self::Http2];

    /// A proxy for it: with these keys of its listener, routes, and all that follows them, each as lines of YAML.
    pub(crate) fn proxy(self, listener: &str, routes: &[&str], clusters: &str) -> Proxy {
        Proxy::start_with(|users, admin| self.file((users, admin), listener, routes, clusters))
    }

    /// Its file.
    pub(crate) fn file(
        self,
        (users, admin): (SocketAddr, SocketAddr),
        listener: &str,
        routes: &[&str],
        clusters: &str,
    ) -> String {
        let listener: String = listener.lines().map(|line| format!("    {line}\n")).collect();
        let routes: String = routes.iter().map(|route| format!("      - {route}\n")).collect();
        format!(
            "{}relay: {}\nlisteners:\n  - name: web\n    address: {users}\n    http2: {{ enabled: {} }}\n{listener}    \
             routes:\n{routes}{clusters}",
            preamble(admin),
            self == Self::Relay,
            self == Self::Http2,
        )
    }

    /// Asks for a target, with headers beside the host's.
    pub(crate) fn ask(self, proxy: &Proxy, method: &str, target: &str, headers: &[(&str, &str)]) -> Reply {
        match self {
            Self::Relay | Self::Full => by_http1(proxy.users, method, target, headers),
            Self::Http2 => by_http2(proxy.users, method, target, headers),
        }
    }

    pub(crate) fn get(self, proxy: &Proxy, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.ask(proxy, "GET", target, headers)
    }
}

/// An answer, without what frames it.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// All values of a header, in a line.
    pub(crate) fn header(&self, name: &str) -> String {
        let values = self.headers.get_all(name).iter();
        let values: Vec<_> = values.map(|value| value.to_str().unwrap()).collect();
        values.join(", ")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn by_http1(to: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)]) -> Reply {
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let mut stream = connect(to);
    let head =
        format!("{method} {target} HTTP/1.1\r\nHost: shop.example\r\n{lines}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {:?}", bytes.escape_ascii().to_string()));
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let headers: HeaderMap = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        })
        .fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        });
    let body = bytes[end + 4..].to_vec();
    Reply {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        body: match headers.get("transfer-encoding") {
            Some(_) => unchunked(&body).expect("the body has an end").0,
            None => body,
        },
        headers,
    }
}

fn by_http2(to: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://shop.example{target}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).unwrap();
    let conversation = async {
        let tcp = TcpStream::connect(to).await.unwrap();
        let (mut send, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        let (answer, _) = send.send_request(request, true).unwrap();
        let (head, mut body) = answer.await.unwrap().into_parts();
        let mut all = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece.unwrap();
            body.flow_control().release_capacity(piece.len()).unwrap();
            all.extend_from_slice(&piece);
        }
        Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            body: all,
        }
    };
    let runtime = Runtime::new().unwrap();
    let bounded = async { timeout(PATIENCE, conversation).await };
    runtime.block_on(bounded).expect("an answer ends")
}
