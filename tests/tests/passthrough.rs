//! TLS is carried to whoever serves the name that is asked for, and never opened; who asks for nobody is told so.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;

use foreshade_tests::proxy::{Proxy, preamble};
use foreshade_tests::wire::{connect, serving};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, Stream};

/// A server of TLS for these names: it says which one it is to whoever has said something, and shows a certificate of its
/// own.
struct Server {
    address: SocketAddr,
    certificate: rustls::pki_types::CertificateDer<'static>,
}

impl Server {
    fn start(called: &'static str, names: &[&str]) -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let address = serving(move |mut tcp| {
            let mut tls = ServerConnection::new(config.clone()).unwrap();
            let mut stream = Stream::new(&mut tls, &mut tcp);
            let mut asked = [0; 4];
            if stream.read_exact(&mut asked).is_ok() {
                stream.write_all(called.as_bytes()).unwrap();
                stream.conn.send_close_notify();
                let _ = stream.flush();
                // Until the client has gone, too.
                let _ = tcp.shutdown(Shutdown::Write);
                let _ = tcp.read(&mut [0]);
            }
        });
        Self { address, certificate }
    }

    /// A client who trusts this server and asks for `name`.
    fn client(&self, name: &str) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        ClientConnection::new(Arc::new(config), name).unwrap()
    }

    /// Who answers a client of this server who asks for `name`.
    fn asked_for(&self, name: &str, proxy: SocketAddr) -> Result<String, String> {
        let mut tls = self.client(name);
        let mut tcp = connect(proxy);
        let mut stream = Stream::new(&mut tls, &mut tcp);
        stream.write_all(b"who?").map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .map_err(|error| error.to_string())?;
        Ok(answer)
    }
}

fn proxy(shop: SocketAddr, wild: SocketAddr, other: &str) -> Proxy {
    Proxy::start_with(|users, admin| {
        format!(
            "{}listeners:\n  - name: tls\n    address: \"{users}\"\n    protocol: tls-passthrough\n    {other}\n    limits: {{ \
             headerTimeout: 1s }}\n    serverNames:\n      - {{ names: [shop.example], cluster: shop }}\n      - {{ names: \
             ['*.shop.example'], cluster: wild }}\nclusters:\n  - {{ name: shop, health: off, endpoints: [{{ name: a, address: \
             \"{shop}\" }}] }}\n  - {{ name: wild, health: off, endpoints: [{{ name: a, address: \"{wild}\" }}] }}\n",
            preamble(admin)
        )
    })
}

#[test]
fn each_name_reaches_its_server_and_the_certificate_is_the_servers_own() {
    let shop = Server::start("the shop", &["shop.example"]);
    let wild = Server::start("one of many", &["a.shop.example", "other.example"]);
    let names = proxy(shop.address, wild.address, "");
    assert_eq!(
        shop.asked_for("shop.example", names.users).as_deref(),
        Ok("the shop")
    );
    assert_eq!(
        shop.asked_for("SHOP.example", names.users).as_deref(),
        Ok("the shop")
    );
    assert_eq!(
        wild.asked_for("a.shop.example", names.users).as_deref(),
        Ok("one of many")
    );
    assert!(
        shop.asked_for("a.shop.example", names.users).is_err(),
        "this is not the shop's certificate"
    );
    // Whoever is served by nobody else.
    let with_other = proxy(shop.address, wild.address, "cluster: wild");
    assert_eq!(
        wild.asked_for("other.example", with_other.users).as_deref(),
        Ok("one of many")
    );
}

#[test]
fn a_name_that_nobody_serves_is_told_so_by_an_alert_and_counted() {
    let server = Server::start("nobody", &["shop.example"]);
    let mut proxy = proxy(server.address, server.address, "");
    for name in ["other.example", "b.a.shop.example", "example"] {
        let told = server.asked_for(name, proxy.users).unwrap_err();
        assert!(told.to_lowercase().contains("unrecognisedname"), "{name}: {told}");
    }
    proxy.wait_until("counted", |p| p.refused("name_unknown") == 3);
    let told = server.asked_for("127.0.0.1", proxy.users).unwrap_err();
    assert!(told.to_lowercase().contains("unrecognisedname"), "{told}");
    proxy.wait_until("counted", |p| p.refused("name_missing") == 1);
}

#[test]
fn what_is_no_tls_is_told_so_and_counted() {
    let server = Server::start("nobody", &["shop.example"]);
    let mut proxy = proxy(server.address, server.address, "");
    let mut user = connect(proxy.users);
    user.write_all(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    user.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"\x15\x03\x01\0\x02\x02\x32", "decode_error");
    proxy.wait_until("counted", |p| p.refused("hello_malformed") == 1);
    // Begun, and not gone on with.
    let mut user = connect(proxy.users);
    user.write_all(b"\x16\x03\x01\x02\0\x01\0").unwrap();
    let mut answer = Vec::new();
    let _ = user.read_to_end(&mut answer);
    assert_eq!(answer.get(..2), Some(&b"\x15\x03"[..]));
    proxy.wait_until("counted", |p| p.refused("hello_slow") == 1);
    // Never begun: as balancers ask whether anybody is there.
    drop(connect(proxy.users));
    assert_eq!(proxy.refused("hello_malformed"), 1);
}

#[test]
fn a_hello_that_comes_byte_by_byte_is_carried_whole() {
    let server = Server::start("the shop", &["shop.example"]);
    let proxy = proxy(server.address, server.address, "");
    let mut tls = server.client("shop.example");
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    let mut tcp = connect(proxy.users);
    tcp.set_nodelay(true).unwrap();
    for byte in &hello {
        tcp.write_all(&[*byte]).unwrap();
    }
    let mut stream = Stream::new(&mut tls, &mut tcp);
    stream.write_all(b"who?").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "the shop");
}

#[test]
fn openssl_is_served_and_is_told_what_it_got_wrong() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: there is no openssl here");
        return;
    }
    let server = Server::start("the shop", &["shop.example"]);
    let proxy = proxy(server.address, server.address, "");
    let said = |arguments: &[&str]| {
        let mut child = Command::new("openssl")
            .args(["s_client", "-connect", &proxy.users.to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may have been refused already.
        let _ = child.stdin.take().unwrap().write_all(b"who?");
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let text = said(&["-servername", "shop.example", version, "-ign_eof"]);
        assert!(text.contains("the shop"), "{version}: {text}");
    }
    let text = said(&["-servername", "other.example"]);
    assert!(text.contains("unrecognized name"), "{text}");
    let text = said(&["-noservername"]);
    assert!(text.contains("unrecognized name"), "{text}");
}

#[test]
fn a_connection_to_who_is_gone_is_broken_and_not_ended() {
    let server = Server::start("nobody", &["shop.example"]);
    let gone = foreshade_tests::proxy::free_address();
    let mut proxy = proxy(gone, gone, "");
    let mut user = connect(proxy.users);
    let mut hello = Vec::new();
    server.client("shop.example").write_tls(&mut hello).unwrap();
    user.write_all(&hello).unwrap();
    assert!(
        user.read_to_end(&mut Vec::new()).is_err(),
        "it looks as if all had been said"
    );
    let refused = "foreshade_endpoint_attempts_total{cluster=\"shop\",endpoint=\"a\",class=\"refused\"}";
    proxy.wait_until("charged", |p| p.metric(refused).is_some_and(|n| n >= 1.0));
}
