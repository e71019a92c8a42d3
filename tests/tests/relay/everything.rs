//! The same, where the configuration asks for everything that a request can be given on its way: names, traces, an access
//! log, edits, rewrites, answers of the route's own, addresses from trusted proxies, and a mirror.

use crate::generated::connections;
use crate::passed;
use crate::side::{Case, Told, same};
use crate::{every_answer, last, smuggled};

/// Names, traces, a log, and routes of every kind.
const EVERYTHING: Told = Told {
    file: "accessLog: { to: FOLDER/access.log }\nrequestId: { make: true, toClient: true }\n\
           trace: { mode: start, sampled: 100% }\n",
    listener: r#"    trustedProxies: [127.0.0.0/8]
    routes:
      - { match: { path: { prefix: /redirect } }, redirect: { path: /elsewhere, status: 308 } }
      - { match: { path: { exact: /respond } }, respond: { status: 200, body: "hello", contentType: text/plain },
          responseHeaders: { add: [{ name: x-route, value: "{route} {request_id}" }] } }
      - { match: { path: { exact: /nothing } }, respond: { status: 204 } }
      - name: edited
        match: { path: { prefix: /edited } }
        cluster: shop
        rewrite: { prefix: /, host: inner.example }
        requestHeaders:
          remove: [cookie, x-empty]
          set:
            - { name: user-agent, value: "{client_ip} {method} {scheme}" }
            - { name: x-forwarded-proto, value: "{scheme}" }
          add:
            - { name: via, value: "1.1 foreshade" }
            - { name: x-correlation-id, value: "{request_id}" }
            - { name: accept, value: "{host}{path}" }
        responseHeaders:
          remove: [etag, x-b]
          set: [{ name: set-cookie, value: c=3 }, { name: x-a, value: "{cluster}" }]
          add: [{ name: x-route, value: "{route}" }, { name: link, value: "</b>" }]
      - { match: { path: { prefix: /broken } }, cluster: shop, rewrite: { regex: { pattern: "^/broken", replacement: "" } } }
      - { match: { path: { prefix: /moved } }, cluster: shop, rewrite: { regex: { pattern: "^/moved", replacement: "" } } }
      - { match: { path: { regex: "/[0-9]+.*" } }, cluster: shop }
"#,
    logs: true,
};

/// A mirror that copies everything.
const MIRROR: Told = Told {
    file: "accessLog: { to: FOLDER/access.log }\n",
    listener: "    routes: [{ cluster: shop, mirror: { target: next, share: 100%, noise: off, writes: { share: 100% }, \
               timeout: 1h } }]\n",
    logs: true,
};

fn case(name: &str, bytes: Vec<u8>) -> Case {
    (name.to_owned(), bytes, Vec::new())
}

#[test]
fn every_answer_is_edited_named_and_logged_as_the_full_path_does() {
    same(EVERYTHING, every_answer("").chain(every_answer("/edited")));
}

#[test]
fn routes_that_answer_by_themselves_answer_alike() {
    let lines = [
        "/redirect/a?b",
        "/respond",
        "/nothing",
        "/nowhere",
        "/broken",
        "/broken/1",
        "/moved/1?q",
    ];
    let requests = [
        ("GET", "", ""),
        ("HEAD", "", ""),
        ("POST", "Content-Length: 5\r\n", "hello"),
        (
            "POST",
            "Transfer-Encoding: chunked\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        ("GET", "X-Request-Id: mine\r\n", ""),
        (
            "GET",
            "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n",
            "",
        ),
    ];
    let alone = lines.into_iter().flat_map(move |path| {
        requests.map(|(method, fields, body)| {
            case(
                &format!("{method} {path} {fields:?}"),
                last(&format!("{method} {path}"), fields, body),
            )
        })
    });
    let kept = lines.into_iter().map(|path| {
        let first = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        case(
            &format!("{path} and another"),
            [first.into_bytes(), last("GET /0", "", "")].concat(),
        )
    });
    same(EVERYTHING, alone.chain(kept));
}

#[test]
fn legal_and_refused_requests_are_logged_alike() {
    let legal = passed::passed()
        .into_iter()
        .map(|legal| case(legal.name, legal.bytes.into_bytes()));
    same(EVERYTHING, legal.chain(smuggled()));
}

#[test]
fn generated_requests_are_edited_named_and_logged_alike() {
    same(
        EVERYTHING,
        connections(0xed17, 700, &["", "/edited", "/moved", "/redirect", "/none"]),
    );
}

#[test]
fn copies_of_every_request_and_answer_are_alike() {
    // What the mirror makes of a target that speaks another version is no concern of the path that served the user. One that
    // closes without a word races with the next copy, on either path.
    let other = ["half_a_head", "nothing", "version_1_0", "unavailable"];
    let is_other = move |(name, ..): &Case| other.iter().any(|other| name.starts_with(other));
    same(MIRROR, every_answer("").filter(move |case| !is_other(case)));
}

#[test]
fn copies_of_generated_requests_are_alike() {
    same(MIRROR, connections(0x3133, 300, &[""]));
}
