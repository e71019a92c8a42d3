//! Connections that are carried and not read, from a client in the clear to an endpoint in TLS.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;

use foreshade_tests::proxy::{Proxy, preamble};
use foreshade_tests::tls_server::{Speaks, TlsServer, body, config, sum};
use foreshade_tests::wire::{connect, read_until, serving};
use rustls::{ServerConnection, StreamOwned};

use crate::stage::{Stage, attempts, done};

fn carrying(tls: &str, cluster: &str) -> Proxy {
    Proxy::start_with(|users, admin| {
        format!(
            "{}listeners:\n  - {{ name: any, address: \"{users}\", protocol: tcp, cluster: shop }}\nclusters:\n  - name: \
             shop\n    health: off\n    tls: {tls}\n{cluster}",
            preamble(admin)
        )
    })
}

fn to(endpoint: SocketAddr) -> String {
    format!("    endpoints: [{{ name: a, address: \"{endpoint}\" }}]\n")
}

#[test]
fn bytes_are_sealed_one_way_and_opened_the_other() {
    const BYTES: usize = 2_000_000;
    let stage = Stage::new();
    let server = stage.server();
    let proxy = carrying(&stage.tls(""), &to(server.address));
    let mut client = connect(proxy.users);
    let large = body(BYTES);
    let mut writer = client.try_clone().unwrap();
    let sent = large.clone();
    let writing = std::thread::spawn(move || {
        write!(writer, "POST / HTTP/1.1\r\nContent-Length: {BYTES}\r\n\r\n").unwrap();
        writer.write_all(&sent).unwrap();
        write!(writer, "GET /large/{BYTES} HTTP/1.1\r\n\r\n").unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    read_until(&mut client, &sum(&large));
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    writing.join().unwrap();
    assert!(answer.ends_with(&large), "{} bytes came", answer.len());
    assert_eq!(done(&proxy, "1.3", false), 1);
    assert_eq!(attempts(&proxy, "reset"), 0);
}

#[test]
fn an_end_that_tls_does_not_know_of_is_told_as_a_reset() {
    let stage = Stage::new();
    let server = stage.server();
    let proxy = carrying(&stage.tls(""), &to(server.address));
    let ask = |path: &str| {
        let mut client = connect(proxy.users);
        write!(client, "GET {path} HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer)
    };
    assert!(ask("/until-close").is_ok());
    assert!(ask("/cut-off").is_err());
}

#[test]
fn who_is_not_believed_gets_no_connection_and_the_shadow_does() {
    let stage = Stage::new();
    let bad = TlsServer::start(&stage.authority.issue("other", &["other.internal"]));
    let good = stage.server();
    let pair = format!(
        "    endpoints: [{{ name: a, address: \"{}\", shadow: b }}]\n    shadows: [{{ name: b, address: \"{}\" }}]\n",
        bad.address, good.address
    );
    let proxy = carrying(&stage.tls(""), &pair);
    let mut client = connect(proxy.users);
    write!(client, "GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(read_until(&mut client, "ok\n").starts_with("HTTP/1.1 200"));
    assert!(bad.visits().is_empty());
}

#[test]
fn an_endpoint_hears_who_the_client_is_before_tls_begins() {
    let stage = Stage::new();
    let (told, heard) = mpsc::channel();
    let tls = config(&stage.shop, None, Speaks::Both);
    let endpoint = serving(move |mut tcp: TcpStream| {
        let header = read_until(&mut tcp, "\r\n");
        let connection = ServerConnection::new(tls.clone()).unwrap();
        let mut stream = StreamOwned::new(connection, tcp);
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        stream.write_all(&byte).unwrap();
        stream.flush().unwrap();
        told.send(header).unwrap();
    });
    let proxy = carrying(
        &stage.tls(""),
        &format!("    proxyProtocol: v1\n{}", to(endpoint)),
    );
    let mut client = connect(proxy.users);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    let header = heard.recv().unwrap();
    assert!(header.starts_with("PROXY TCP4 127.0.0.1"), "{header}");
}
