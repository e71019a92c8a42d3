//! The rivals as programs: that each one understands what it is told, serves, shows all its processes, and leaves
//! nobody behind. Those that are not installed are named on standard error and count as nothing.
#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and says which rivals it did not find"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use foreshade_bench::bare::oracle::{Faulty, Teaching};
use foreshade_bench::client;
use foreshade_bench::farm::fault::Fault;
use foreshade_bench::farm::service_time::ServiceTime;
use foreshade_bench::farm::{EndpointSpec, Farm, FarmOptions};
use foreshade_bench::results::{CompareResults, Protocol, Setting};
use foreshade_bench::rivals::{Contender, Found, Primary, Running, Site};
use foreshade_bench::stage::process::{Programs, Scratch};
use foreshade_bench::stage::{family, ports};

const BENCH: &str = env!("CARGO_BIN_EXE_foreshade-bench");

fn programs() -> Programs {
    Programs {
        bench: PathBuf::from(BENCH),
        proxy: PathBuf::from(BENCH),
    }
}

/// Two primaries with a standby each.
fn farm() -> Farm {
    let mut options = FarmOptions::on_free_ports(&["a", "b", "a-standby", "b-standby"]);
    options.service_time = ServiceTime::NONE;
    Farm::start(options).unwrap()
}

fn site(farm: &Farm, protocol: Protocol, setting: Setting) -> Site {
    let ports = ports::free(2).unwrap();
    let [a, b, a_standby, b_standby] = farm.addresses().try_into().unwrap();
    let primary = |name: &str, address| Primary {
        name: name.to_owned(),
        address,
        standby: Some(format!("{name}-standby")),
    };
    let standby = |name: &str, address| EndpointSpec {
        name: name.to_owned(),
        address,
    };
    Site {
        listen: ports[0],
        admin: ports[1],
        protocol,
        workers: 1,
        primaries: vec![primary("a", a), primary("b", b)],
        standbys: vec![standby("a-standby", a_standby), standby("b-standby", b_standby)],
        tls: None,
        setting,
        capacity: 16,
    }
}

/// Those of these contenders that are here.
fn present(contenders: &[Contender]) -> Vec<Found> {
    let programs = programs();
    let find = |contender: &Contender| match contender.find(&programs) {
        Ok(found) => Some(found),
        Err(absent) => {
            eprintln!("{}: {absent}", contender.name());
            None
        }
    };
    contenders.iter().filter_map(find).collect()
}

fn is_gone(process: u32) -> bool {
    // One that waits to be reaped has no memory any more.
    !std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).is_ok_and(|text| text.contains("Rss"))
}

fn serves(running: &Running) {
    for path in ["/a", "/b", "/c"] {
        let (status, body) = client::request(running.site.listen, "GET", path, "").unwrap();
        assert_eq!((status, body.len()), (200, 100), "{:?}", running.contender);
    }
    let (status, _) = client::request(running.site.listen, "POST", "/a", "an order").unwrap();
    assert_eq!(status, 200, "{:?}", running.contender);
}

#[test]
fn every_rival_understands_serves_and_leaves_nobody_behind() {
    let (farm, scratch, programs) = (farm(), Scratch::new("test-rivals").unwrap(), programs());
    let contenders = [
        Contender::Bare,
        Contender::Nginx,
        Contender::Haproxy,
        Contender::Envoy,
        Contender::Unmoved,
        Contender::Oracle,
    ];
    for found in present(&contenders) {
        for setting in [Setting::Tuned, Setting::Defaults] {
            for protocol in [Protocol::Http1, Protocol::Tcp] {
                let site = site(&farm, protocol, setting);
                if found.cannot(&site).is_some() {
                    continue;
                }
                let folder = scratch
                    .path()
                    .join(format!("{}-{setting:?}-{protocol:?}", found.contender.name()));
                let mut running = found.start(&programs, &site, &folder).unwrap();
                serves(&running);
                running.check().unwrap();
                let processes = running.processes().unwrap();
                let workers = usize::from(found.contender == Contender::Nginx);
                assert_eq!(processes.len(), 1 + workers, "{:?}", found.contender);
                assert!(family::cpu_time(&processes).is_ok() && family::resident_bytes(&processes).is_ok());
                drop(running);
                let left: Vec<_> = processes.into_iter().filter(|id| !is_gone(*id)).collect();
                assert!(left.is_empty(), "{:?} left {left:?}", found.contender);
            }
        }
    }
}

#[test]
fn a_rival_that_does_not_start_says_why_in_its_own_words() {
    let (farm, scratch, programs) = (farm(), Scratch::new("test-taken").unwrap(), programs());
    for found in present(&[Contender::Nginx, Contender::Haproxy, Contender::Envoy]) {
        let mut site = site(&farm, Protocol::Http1, Setting::Tuned);
        // Nobody can listen on an address of somebody else's machine, and nobody accepts there.
        site.listen = "192.0.2.1:8080".parse().unwrap();
        let folder = scratch.path().join(found.contender.name());
        let error = found.start(&programs, &site, &folder).unwrap_err().to_string();
        let own_words = ["Cannot assign requested address", "cannot bind socket"];
        assert!(
            error.starts_with(found.contender.name()) && own_words.iter().any(|word| error.contains(word)),
            "{error}"
        );
    }
}

#[test]
fn an_oracle_goes_around_what_it_was_told() {
    let (farm, scratch, programs) = (farm(), Scratch::new("test-oracle").unwrap(), programs());
    let found = Contender::Oracle.find(&programs).unwrap();
    let site = site(&farm, Protocol::Http1, Setting::Tuned);
    let oracle = found.start(&programs, &site, scratch.path()).unwrap();
    let faulty = |endpoint: &str| Teaching {
        faulty: vec![Faulty {
            endpoint: endpoint.into(),
            ..Faulty::default()
        }],
    };
    oracle.teach(&faulty("b")).unwrap();
    serves(&oracle);
    let unknown = oracle.teach(&faulty("z")).unwrap_err().to_string();
    assert!(unknown.contains("there is no endpoint"), "{unknown}");
    farm.set_faults("a", &[Fault::errors(1.0)]).unwrap();
    oracle.teach(&faulty("a")).unwrap();
    for _ in 0..20 {
        assert_eq!(client::request(site.listen, "GET", "/a", "").unwrap().0, 200);
    }
    // Not told, it repeats what may be repeated, and nothing else.
    oracle.teach(&Teaching::default()).unwrap();
    let statuses = |method: &str| -> Vec<u16> {
        let ask = |_| client::request(site.listen, method, "/a", "").unwrap().0;
        (0..20).map(ask).collect()
    };
    assert!(statuses("GET").iter().all(|status| *status == 200));
    assert!(statuses("POST").contains(&500));
}

/// A comparison that would take an hour, stopped by nothing yet, with all its processes; something was measured
/// already.
fn endless(folder: &Path, json: &Path) -> (Child, Vec<u32>) {
    let words =
        "compare --only http1/64B --bodies 64 --contenders bare,nginx --rounds 1000 --seconds 1 --proxy";
    let mut bench = Command::new(BENCH)
        .args(words.split(' '))
        .arg(BENCH)
        .arg("--json")
        .arg(json)
        .env("TMPDIR", folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(bench.stdout.take().unwrap()).lines();
    // Reading on would be polite; a closed pipe is survived as well.
    let measured = lines
        .map_while(Result::ok)
        .any(|line| line.starts_with("round 1 "));
    assert!(measured, "{:?}", bench.wait());
    let processes = with_children(bench.id()).expect("it starts a contender within a minute");
    (bench, processes)
}

/// A process and its children; between two contenders, or two rounds, it may be alone for a moment.
fn with_children(process: u32) -> Option<Vec<u32>> {
    let asked = Instant::now();
    std::iter::repeat_with(|| family::members(process).unwrap())
        .inspect(|_| std::thread::sleep(Duration::from_millis(5)))
        .take_while(|_| asked.elapsed() < Duration::from_secs(60))
        .find(|members| members.len() >= 2)
}

/// Waits for somebody else to end them, for as long as an orderly end may take.
fn all_end(processes: &[u32]) -> bool {
    let asked = Instant::now();
    while !processes.iter().all(|id| is_gone(*id)) {
        if asked.elapsed() > Duration::from_secs(60) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn signal(name: &str, process: u32) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[test]
fn an_interrupted_comparison_writes_what_it_has_and_leaves_nothing_behind() {
    let scratch = Scratch::new("test-interrupted").unwrap();
    let (folder, json) = (scratch.path().join("tmp"), scratch.path().join("compare.json"));
    std::fs::create_dir_all(&folder).unwrap();
    let (mut bench, processes) = endless(&folder, &json);
    signal("INT", bench.id());
    assert_eq!(bench.wait().unwrap().code(), Some(1));
    assert!(processes.iter().all(|id| is_gone(*id)));
    assert_eq!(
        std::fs::read_dir(&folder).unwrap().count(),
        0,
        "its folder is gone"
    );
    let results: CompareResults = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let bare = results.rows.iter().find(|row| row.contender == "bare").unwrap();
    assert!(
        !bare.rounds.is_empty() && bare.rounds.iter().all(|value| *value > 0.0),
        "{bare:?}"
    );
}

#[test]
fn a_comparison_that_is_killed_takes_everybody_with_it() {
    let scratch = Scratch::new("test-killed").unwrap();
    let (mut bench, processes) = endless(scratch.path(), &scratch.path().join("compare.json"));
    signal("KILL", bench.id());
    bench.wait().unwrap();
    assert!(all_end(&processes), "{processes:?}");
}
