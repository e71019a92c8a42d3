//! What `explain` says, as it is printed.

use insta::assert_snapshot;

use super::*;
use crate::config;

const CONFIG: &str = "\
apiVersion: foreshade/v1
listeners:
  - name: web
    address: 127.0.0.1:8080
    trustedProxies: [10.0.0.0/8]
    routes:
      - { cluster: blue }
      - name: api
        match: { host: '*.example', path: { prefix: /api }, headers: [{ name: x-beta }] }
        clusters: [{ name: blue, weight: 3 }, { name: green }]
        rewrite: { prefix: /v2, host: inner.example }
        requestHeaders: { set: [{ name: x-from, value: '{client_ip} by {route} to {cluster}' }] }
        responseHeaders: { remove: [server] }
      - { match: { host: '*.example' }, cluster: green }
      - { match: { host: old.example }, redirect: { scheme: https, host: new.example, status: 308 } }
  - name: inner
    address: 127.0.0.1:8081
    routes:
      - name: anonymous
        match: { path: { prefix: /docs }, headers: [{ name: cookie, not: true }], query: [{ name: v, exact: '2', not: true }] }
        cluster: green
        requestHeaders: { set: [{ name: x-id, value: 'id {request_id}' }] }
      - { match: { path: { prefix: /docs } }, cluster: blue }
      - { match: { path: { exact: /healthz } }, respond: { status: 200, body: fine } }
clusters:
  - name: blue
    cohort: { cookie: sid }
    endpoints: [{ name: a, address: '127.0.0.1:9001' }]
    segments: [{ name: staff, match: { header: { name: x-staff, value: '1' } }, part: 10% }]
  - { name: green, endpoints: [{ name: a, address: '127.0.0.1:9002' }] }
";

fn ask(url: &str, headers: &[&str]) -> Explanation {
    let config = config::parse(CONFIG, "test").unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let question = Question {
        url: url.to_owned(),
        method: "GET".to_owned(),
        headers: headers.iter().map(|&h| h.to_owned()).collect(),
        client: "10.0.0.1".parse().unwrap(),
    };
    explain(&config, &question).unwrap()
}

#[test]
fn a_request_is_followed_to_its_cluster() {
    let headers = [
        "X-Beta: 1",
        "X-Forwarded-For: 192.0.2.7",
        "Cookie: sid=anna",
        "X-Staff: 1",
    ];
    assert_snapshot!(ask("http://shop.example:8080/x/../api/%61?q=1", &headers), @r#"
    listener   web
    client     192.0.2.7
    path       /api/a
    route      api (line 8)
      before   line-14 (line 14), by path
      before   line-7 (line 7), by host
    cluster    blue
      among    blue with 75.0%
      among    green with 25.0%
    cohort     5e74372c8de63439, by cookie sid
    segment    staff
    asks for   /v2/a?q=1
    host       inner.example
    request    set x-from: 192.0.2.7 by api to blue
    answer     remove server
    "#);
}

#[test]
fn a_redirect_an_answer_a_refusal_and_nothing_at_all() {
    assert_snapshot!(ask("http://old.example:8080/a?b", &[]), @r#"
    listener   web
    client     10.0.0.1
    path       /a
    route      line-15 (line 15)
      before   line-14 (line 14), by host
      before   line-7 (line 7), by host
    answer     308
    location   https://new.example/a?b
    "#);
    assert_snapshot!(ask("http://x:8081/healthz", &[]), @r#"
    listener   inner
    client     10.0.0.1
    path       /healthz
    route      line-24 (line 24)
    answer     200
      body     fine
    "#);
    assert_snapshot!(ask("http://x:8080/a%2fb", &[]), @r#"
    listener   web
    client     10.0.0.1
    refused    400, path_encoded_slash
    "#);
    let nothing = ask("http://x:8081/other", &[]);
    assert!(!nothing.is_routed());
    assert_snapshot!(nothing, @r#"
    listener   inner
    client     10.0.0.1
    path       /other
    route      none: 404
    "#);
}

#[test]
fn a_condition_that_is_turned_around_is_followed_as_any_other() {
    let winner = |url: &str, headers: &[&str]| ask(url, headers).route.unwrap().name;
    assert_eq!(winner("http://x:8081/docs?v=1", &[]), "anonymous");
    assert_eq!(winner("http://x:8081/docs?v=2", &[]), "line-23");
    assert_eq!(winner("http://x:8081/docs", &["Cookie: a=b"]), "line-23");
    let explained = ask("http://x:8081/docs", &["X-Request-Id: abc-1"]);
    assert_eq!(explained.runners_up[0].loses_by, "headers");
    assert!(
        explained.to_string().contains("set x-id: id abc-1"),
        "{explained}"
    );
}

#[test]
fn machines_get_the_same_as_json() {
    let json = serde_json::to_value(ask("http://a.example:8080/api", &["x-beta: 1"])).unwrap();
    assert_eq!(json["route"]["name"], "api");
    assert_eq!(json["outcome"]["forward"]["clusters"][0][0], "blue");
    assert_eq!(json["runners_up"][0]["loses_by"], "path");
}

#[test]
fn what_is_no_question_is_said_to_be_none() {
    let config = config::parse(CONFIG, "test").unwrap();
    let question = |url: &str, header: &str| Question {
        url: url.to_owned(),
        method: "GET".to_owned(),
        headers: vec![header.to_owned()],
        client: "10.0.0.1".parse().unwrap(),
    };
    for (url, header) in [
        ("ftp://a/", "a: b"),
        ("http://a b/", "a: b"),
        ("http://a/", "ab"),
        ("http://a/", "a b: c"),
    ] {
        assert!(
            explain(&config, &question(url, header)).is_err(),
            "{url} {header}"
        );
    }
}

#[test]
fn a_policy_is_named_and_whom_it_refuses_is_told() {
    let text = CONFIG.replace(
        "    trustedProxies: [10.0.0.0/8]\n",
        "    trustedProxies: [10.0.0.0/8]\n    access: { deny: [192.0.2.0/24] }\n",
    );
    let text = text.replace(
        "    cohort: { cookie: sid }\n",
        "    cohort: { cookie: sid }\n    concurrency: { limit: 9 }\n",
    );
    let config = config::parse(&text, "test").unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let asked = |url: &str, client: &str| {
        let question = Question {
            url: url.to_owned(),
            method: "GET".to_owned(),
            headers: vec![format!("X-Forwarded-For: {client}")],
            client: "10.0.0.1".parse().unwrap(),
        };
        explain(&config, &question).unwrap().to_string()
    };
    assert_snapshot!(asked("http://old.example:8080/a", "192.0.2.7"), @r#"
    listener   web
    client     192.0.2.7
    path       /a
    route      line-16 (line 16)
      before   line-15 (line 15), by host
      before   line-8 (line 8), by host
    policy     lets in everybody, but never 192.0.2.0/24
    refused    403, address_denied
    "#);
    let let_in = asked("http://old.example:8080/a", "198.51.100.1");
    assert!(
        let_in.contains("policy     lets in") && let_in.contains("answer     308"),
        "{let_in}"
    );
    let forwarded = asked("http://x:8080/a", "198.51.100.1");
    let gate = "policy     of the cluster blue: at most 9 requests under way, 0 wait for 1s at most";
    assert!(forwarded.contains(gate), "{forwarded}");
}

const CARRIED: &str = "\
apiVersion: foreshade/v1
listeners:
  - { name: db, address: '127.0.0.1:5432', protocol: tcp, cluster: db }
  - name: tls
    address: 127.0.0.1:8443
    protocol: tls-passthrough
    serverNames: [{ names: ['*.shop.example'], cluster: shop }]
  - { name: web, address: '127.0.0.1:8080', routes: [{ cluster: web }] }
  - { name: media, address: '127.0.0.1:8080', protocol: udp, cluster: shop }
clusters:
  - { name: db, proxyProtocol: v2, endpoints: [{ name: a, address: '127.0.0.1:9001' }] }
  - { name: shop, endpoints: [{ name: a, address: '127.0.0.1:9002' }] }
  - { name: web, endpoints: [{ name: a, address: '127.0.0.1:9003' }] }
";

#[test]
fn a_connection_is_followed_to_its_cluster() {
    let config = config::parse(CARRIED, "test").unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let ask = |url: &str| {
        let question = Question {
            url: url.to_owned(),
            method: "GET".to_owned(),
            headers: Vec::new(),
            client: "10.0.0.1".parse().unwrap(),
        };
        explain(&config, &question).unwrap()
    };
    assert_snapshot!(ask("tcp://:5432"), @r#"
    listener   db
    client     10.0.0.1
    protocol   tcp
    cluster    db
    cohort     83cff27f7da39d96, by client address
    told       PROXY protocol v2
    "#);
    assert_snapshot!(ask("tls://A.shop.example"), @r#"
    listener   tls
    client     10.0.0.1
    protocol   tls-passthrough
    asks for   a.shop.example
    cluster    shop
    cohort     83cff27f7da39d96, by client address
    "#);
    let nowhere = ask("tls://shop.example:8443");
    assert!(!nowhere.is_routed());
    assert_snapshot!(nowhere, @r#"
    listener   tls
    client     10.0.0.1
    protocol   tls-passthrough
    asks for   shop.example
    refused    name_unknown
    "#);
    for (url, listener) in [
        ("udp://:8080", "media"),
        ("http://:8080", "web"),
        ("udp://:9", "media"),
    ] {
        assert_eq!(ask(url).listener, listener, "{url}");
    }
    let datagram = ask("udp://:8080").to_string();
    assert!(
        datagram.contains("protocol   udp\ncluster    shop\n"),
        "{datagram}"
    );
    assert_eq!(
        ask("http://shop.example/").listener,
        "web",
        "the first that speaks it"
    );
}
