//! Connections move to the shadow of an endpoint that has become slow, user by user, as requests do.
// Concept: endpoint-gradual-shift
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foreshade_bench::farm::fault::Fault;
use foreshade_bench::farm::service_time::ServiceTime;
use foreshade_bench::farm::talk::Language;
use foreshade_bench::farm::{Farm, FarmOptions};
use foreshade_tests::proxy::{PATIENCE, Proxy, preamble};

/// Connections at one time.
const USERS: u8 = 8;

/// Users one after another, each at an address of his own, which is how he is recognised: two questions on one connection.
fn user(number: u8, proxy: SocketAddr, stop: &AtomicBool) {
    let mut round = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let address = Ipv4Addr::new(127, 1, number, u8::try_from(round % 250).unwrap() + 1);
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
        socket.connect(&proxy.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = [0; 4];
        for _ in 0..2 {
            stream.write_all(b"ping").unwrap();
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"ping");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn connections_move_to_the_shadow_of_a_slow_endpoint_and_none_fails() {
    let farm = Farm::start(FarmOptions {
        language: Language::Echo,
        service_time: ServiceTime::default(),
        ..FarmOptions::on_free_ports(&["a", "b", "a-standby"])
    })
    .unwrap();
    let [a, b, standby] = [0, 1, 2].map(|index| farm.addresses()[index]);
    let mut proxy = Proxy::start_with(|users, admin| {
        format!(
            "{}listeners: [{{ name: cache, address: \"{users}\", protocol: tcp, cluster: cache }}]\nclusters:\n  - name: \
             cache\n    endpoints:\n      - {{ name: a, address: \"{a}\", shadow: a-standby }}\n      - {{ name: b, address: \
             \"{b}\" }}\n    shadows: [{{ name: a-standby, address: \"{standby}\" }}]\n",
            preamble(admin)
        )
    });
    let stop = Arc::new(AtomicBool::new(false));
    let users: Vec<_> = (0..USERS)
        .map(|number| {
            let (stop, address) = (stop.clone(), proxy.users);
            std::thread::spawn(move || user(number, address, &stop))
        })
        .collect();
    proxy.wait_until("known", |p| {
        p.endpoint("a")["standing"] == "known" && served(p, "a") > 300.0
    });
    assert!(served(&proxy, "a-standby") < 1.0, "nobody has moved yet");
    farm.set_faults("a", &[Fault::slow(20.0)]).unwrap();
    proxy.wait_until("shifted", |p| {
        p.endpoint("a")["share"].as_f64().is_some_and(|share| share > 0.2) && served(p, "a-standby") > 20.0
    });
    stop.store(true, Ordering::Relaxed);
    for user in users {
        user.join().unwrap();
    }
}

/// Connections that an endpoint has served.
fn served(proxy: &Proxy, endpoint: &str) -> f64 {
    proxy
        .metric(&format!(
            "foreshade_endpoint_attempts_total{{cluster=\"cache\",endpoint=\"{endpoint}\",class=\"ok\"}}"
        ))
        .unwrap_or_default()
}
