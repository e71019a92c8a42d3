//! A proxy with policies, and clients of any address: the test's machine counts as a proxy before it whose word counts.

use std::net::SocketAddr;

use foreshade_tests::proxy::{Proxy, preamble};
use foreshade_tests::wire::exchange;

/// A proxy, its relay on or off.
pub(crate) struct Stand {
    pub(crate) proxy: Proxy,
}

/// An answer as a client sees it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Stand {
    /// Starts one with keys of its listener (each line as YAML, without indent) and routes, in front of `endpoint`.
    pub(crate) fn start(endpoint: SocketAddr, relay: bool, listener: &str, routes: &[&str]) -> Self {
        Self::start_with(endpoint, relay, listener, routes, "")
    }

    /// The same, with keys of the file.
    pub(crate) fn start_with(
        endpoint: SocketAddr,
        relay: bool,
        listener: &str,
        routes: &[&str],
        file: &str,
    ) -> Self {
        let proxy = Proxy::start_with(|users, admin| {
            format!(
                "{}{}",
                preamble(admin),
                config(users, endpoint, relay, listener, routes, file)
            )
        });
        Self { proxy }
    }

    /// The same, with keys of the cluster.
    pub(crate) fn start_guarded(endpoint: SocketAddr, relay: bool, routes: &[&str], cluster: &str) -> Self {
        let proxy = Proxy::start_with(|users, admin| {
            let config = config(users, endpoint, relay, "", routes, "");
            format!("{}{config}    {cluster}\n", preamble(admin))
        });
        Self { proxy }
    }

    /// Asks as the client of an address.
    pub(crate) fn ask(&self, client: &str, target: &str) -> Answer {
        self.ask_with(client, "GET", target, "")
    }

    /// The same, with a method and headers of the test's own, each with its line end.
    pub(crate) fn ask_with(&self, client: &str, method: &str, target: &str, headers: &str) -> Answer {
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: {client}\r\n{headers}\
             Connection: close\r\n\r\n"
        );
        Answer::read(&exchange(self.proxy.users, request.as_bytes()))
    }

    /// Waits until a policy has refused so many requests for a reason.
    pub(crate) fn refused(&mut self, reason: &str, count: u32) {
        let series = format!("foreshade_policy_refused_total{{reason=\"{reason}\"}}");
        let what = format!("aware of {count} times {reason}");
        self.proxy
            .wait_until(&what, |p| p.metric(&series) == Some(f64::from(count)));
    }
}

/// Everything behind the preamble.
pub(crate) fn config(
    users: SocketAddr,
    endpoint: SocketAddr,
    relay: bool,
    listener: &str,
    routes: &[&str],
    file: &str,
) -> String {
    let listener: String = listener.lines().map(|line| format!("    {line}\n")).collect();
    let routes: String = routes.iter().map(|route| format!("      - {route}\n")).collect();
    format!(
        "relay: {relay}\n{file}\nlisteners:\n  - name: web\n    address: {users}\n    trustedProxies: [127.0.0.1]\n\
         {listener}    routes:\n{routes}clusters:\n  - name: shop\n    health: off\n    endpoints: \
         [{{ name: a, address: \"{endpoint}\" }}]\n"
    )
}

impl Answer {
    pub(crate) fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or_else(|| panic!("no answer: {text:?}")),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// The values of a header.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }
}
