//! A proxy and its controller: plans change what the proxy does, stale ones do not, and nobody needs the controller to be
//! there.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use foreshade_bench::client;
use foreshade_contract::report::{Health, Reason};
use foreshade_contract::{Arm, PairPlan, Round, Share};
use foreshade_tests::controller::{Controller, directed, pair};
use foreshade_tests::proxy::{Place, Proxy, free_address};
use foreshade_tests::wire::{Scripted, exchange};
use serde_json::Value;

/// Users that are told apart by a header.
const USERS: u32 = 300;

/// `a` and `a-standby`, each of which answers with its name.
struct Site {
    a: Scripted,
    standby: Scripted,
}

impl Site {
    fn new() -> Self {
        Self {
            a: answering("a"),
            standby: answering("s"),
        }
    }

    fn file(&self, place: &Place, controller: &str) -> String {
        let (users, admin) = (place.users, place.admin);
        let (a, standby) = (self.a.address, self.standby.address);
        format!(
            "apiVersion: foreshade/v1\nadmin: {{ address: {admin} }}\nworkers: 2\ngrace: 1s\n{controller}\
             listeners: [{{ name: web, address: {users}, routes: [{{ cluster: shop, timeout: 2s }}] }}]\n\
             clusters:\n  - name: shop\n    health: off\n    cohort: {{ header: x-user }}\n    slowStart: 0s\n    \
             endpoints: [{{ name: a, address: \"{a}\", shadow: a-standby }}]\n    \
             shadows: [{{ name: a-standby, address: \"{standby}\" }}]\n"
        )
    }

    /// A proxy named `edge` that follows the controller at this address.
    fn proxy(&self, controller: SocketAddr) -> Proxy {
        self.proxy_with(|folder| section(controller, folder))
    }

    fn proxy_with(&self, section: impl FnOnce(&str) -> String) -> Proxy {
        let mut proxy = Proxy::spawn(|place| self.file(place, &section(&place.folder.display().to_string())));
        ready(&mut proxy);
        proxy
    }
}

fn section(controller: SocketAddr, folder: &str) -> String {
    format!("follow: {{ address: \"{controller}\", name: edge, planFile: {folder}/plan }}\n")
}

fn ready(proxy: &mut Proxy) {
    proxy.wait_until("ready", |p| {
        client::request(p.admin, "GET", "/readyz", "").is_ok_and(|(status, _)| status == 200)
    });
}

fn answering(name: &'static str) -> Scripted {
    Scripted::start(move |stream| {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n{name}");
        let _ = stream.write_all(answer.as_bytes());
    })
}

/// Which endpoint serves this user: `a` or `s`; nobody where the answer is no 200.
fn served(proxy: &Proxy, user: u32) -> Option<char> {
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nx-user: u{user}\r\nConnection: close\r\n\r\n");
    let answer = exchange(proxy.users, request.as_bytes());
    answer
        .starts_with("HTTP/1.1 200")
        .then(|| answer.chars().last())
        .flatten()
}

/// The part of all users that the standby serves. All are served by somebody.
fn at_the_standby(proxy: &Proxy) -> f64 {
    let by = (0..USERS).map(|user| served(proxy, user).expect("everybody is served"));
    f64::from(u32::try_from(by.filter(|by| *by == 's').count()).unwrap()) / f64::from(USERS)
}

fn link(proxy: &Proxy) -> Value {
    let (_, body) = client::request(proxy.admin, "GET", "/v1/controller", "").expect("the admin answers");
    serde_json::from_str::<Value>(&body).expect("JSON")["controller"].clone()
}

fn promoted() -> PairPlan {
    PairPlan {
        serving: Arm::Shadow,
        ..pair("a")
    }
}

/// Waits until so many of all users are served by the standby: a plan is published in one tick, and each worker takes it
/// over when it is asked next. All are served meanwhile.
fn until_served(proxy: &mut Proxy, share: f64) {
    // More than four standard deviations of a share of 300 users; none where it is nobody or everybody.
    let slack = 4.5 * (share * (1.0 - share) / f64::from(USERS)).sqrt() + 1e-9;
    proxy.wait_until("at its share", |p| (at_the_standby(p) - share).abs() <= slack);
}

#[test]
fn a_plan_changes_shares_and_the_next_one_changes_them_back() {
    let (site, controller) = (Site::new(), Controller::start(free_address(), 1));
    let mut proxy = site.proxy(controller.address);
    controller.enact(1, vec![pair("a")]);
    assert!(at_the_standby(&proxy) < 1e-9);
    controller.enact(2, vec![directed("a", 0.3)]);
    until_served(&mut proxy, 0.3);
    assert_eq!(proxy.endpoint("a")["phase"], "directed");
    // Back in one tick, and as a new plan.
    let last = controller.enact(3, vec![directed("a", 0.0)]);
    until_served(&mut proxy, 0.0);
    assert!(at_the_standby(&proxy) < 1e-9);
    assert_eq!(link(&proxy)["plan"]["generation"], last.generation.0);
    assert_eq!(proxy.metric("foreshade_controller_connected"), Some(1.0));
    assert_eq!(proxy.metric("foreshade_plan_generation"), Some(3.0));
}

// Invariant 4 of ARCHITECTURE.md.
#[test]
fn a_plan_of_an_older_epoch_or_generation_is_refused_and_changes_nothing() {
    let site = Site::new();
    let new = Controller::start(free_address(), 7);
    let address = new.address;
    let mut proxy = site.proxy(address);
    let taken = new.enact(5, vec![directed("a", 1.0)]);
    until_served(&mut proxy, 1.0);
    new.stop();
    // One that has been replaced and does not know it, with a higher generation.
    let deposed = Controller::start(address, 6);
    let stale = deposed.publish(99, vec![directed("a", 0.0)]);
    deposed.wait_for("refused", |c| c.acknowledged(stale).refusing == 1);
    let status = deposed.wait_status("told", "edge", |status| status.refused.is_some());
    assert_eq!(status.plan, Some(taken));
    assert_eq!(status.refused.unwrap().reason, Reason::StaleEpoch);
    assert!((at_the_standby(&proxy) - 1.0).abs() < 1e-9);
    deposed.stop();
    // The same epoch again, with an older plan.
    let older = Controller::start(address, 7);
    let stale = older.publish(4, vec![directed("a", 0.0)]);
    older.wait_for("refused", |c| {
        c.acknowledged(stale).refusing == 1 || c.acknowledged(stale).by_all()
    });
    let status = older.wait_status("told", "edge", |status| status.refused.is_some());
    assert_eq!(status.plan, Some(taken));
    assert_eq!(status.refused.unwrap().reason, Reason::StaleGeneration);
    assert!((at_the_standby(&proxy) - 1.0).abs() < 1e-9);
    assert_eq!(link(&proxy)["last_refused"]["reason"], "stale_generation");
    // And a newer one is followed as ever.
    older.enact(6, vec![directed("a", 0.0)]);
    until_served(&mut proxy, 0.0);
    assert!(at_the_standby(&proxy) < 1e-9);
}

// Invariant 3 of ARCHITECTURE.md.
#[test]
fn a_proxy_starts_from_its_last_good_plan_without_a_controller() {
    let (site, controller) = (Site::new(), Controller::start(free_address(), 1));
    let address = controller.address;
    let mut first = site.proxy(address);
    controller.enact(1, vec![promoted()]);
    controller.enact(
        2,
        vec![PairPlan {
            directed: Some(Share::clamped(0.25)),
            ..promoted()
        }],
    );
    assert!(link(&first)["plan"]["persisted"].as_bool().unwrap());
    controller.stop();
    let kept = fs::read(first.folder.join("plan")).unwrap();
    first.process().kill().unwrap();
    drop(first);

    let mut second = site.proxy_with(|folder| {
        fs::write(format!("{folder}/plan"), &kept).unwrap();
        section(address, folder)
    });
    // Roles and share as they were, from the first request on: the standby serves, and `a` gets its share.
    let share = 1.0 - at_the_standby(&second);
    assert!((0.15..0.35).contains(&share), "{share}");
    assert_eq!(second.endpoint("a-standby")["role"], "primary");
    let seen = link(&second);
    assert_eq!(
        (&seen["connected"], &seen["plan"]["generation"]),
        (&false.into(), &2.into())
    );
    until_served(&mut second, 0.75);
}

#[test]
fn a_torn_or_foreign_plan_file_is_not_started_from() {
    let site = Site::new();
    for content in [&b"foreshade plan 1 and half of it"[..], b"something else\n"] {
        let proxy = site.proxy_with(|folder| {
            fs::write(format!("{folder}/plan"), content).unwrap();
            section(free_address(), folder)
        });
        assert_eq!(link(&proxy)["plan"], Value::Null);
        assert!(at_the_standby(&proxy) < 1e-9, "it serves all the same");
    }
}

#[test]
fn a_controller_that_is_gone_is_missed_by_no_request_and_shown_as_gone() {
    let (site, controller) = (Site::new(), Controller::start(free_address(), 1));
    let address = controller.address;
    let mut proxy = site.proxy(address);
    let plan = controller.enact(1, vec![directed("a", 0.5)]);
    until_served(&mut proxy, 0.5);
    let before = at_the_standby(&proxy);
    controller.stop();
    proxy.wait_until("alone", |p| link(p)["connected"] == false);
    // Longer than the longest pause between two tries would be for a link that was never there.
    proxy.wait_until("trying again and again", |p| {
        assert!(
            (at_the_standby(p) - before).abs() < 1e-9,
            "the same users at the same sides"
        );
        link(p)["dials"].as_u64().is_some_and(|dials| dials >= 4)
    });
    assert_eq!(proxy.metric("foreshade_controller_connected"), Some(0.0));
    assert!(
        proxy
            .metric("foreshade_controller_alone_seconds")
            .is_some_and(|alone| alone > 0.0)
    );
    // It comes back, finds its plan in force, and has nothing to send.
    let again = Controller::start(address, 1);
    again.publish(1, vec![directed("a", 0.5)]);
    again.wait_for("followed", |c| {
        let acknowledged = c.acknowledged(plan);
        acknowledged.proxies == 1 && acknowledged.by_all()
    });
    again.enact(2, vec![directed("a", 1.0)]);
    until_served(&mut proxy, 1.0);
}

#[test]
fn a_primary_that_dies_is_left_whatever_the_plan_says() {
    let controller = Controller::start(free_address(), 1);
    let site = Site {
        // Nobody listens there.
        a: Scripted::start(|_| {}),
        standby: answering("s"),
    };
    let dead = free_address();
    let mut proxy = Proxy::spawn(|place| {
        let text = site.file(
            place,
            &section(controller.address, &place.folder.display().to_string()),
        );
        text.replace(&site.a.address.to_string(), &dead.to_string())
    });
    ready(&mut proxy);
    controller.enact(1, vec![directed("a", 0.1)]);
    // Each request finds out by itself at first, and is served by the standby all the same.
    proxy.wait_until("failed over", |p| {
        (0..20).for_each(|user| assert_eq!(served(p, user), Some('s')));
        p.endpoint("a")["phase"] == "fail_over"
    });
    assert!(proxy.endpoint("a")["share"].as_f64().unwrap() > 0.9);
    controller.wait_report("told", "shop/a", |report| {
        report.health[0] == Health::Down && report.share > Share::clamped(0.9)
    });
}

#[test]
fn roles_swap_and_swap_back_and_both_keep_their_history() {
    let (site, controller) = (Site::new(), Controller::start(free_address(), 1));
    let mut proxy = site.proxy(controller.address);
    controller.enact(1, vec![directed("a", 0.5)]);
    until_served(&mut proxy, 0.5);
    at_the_standby(&proxy);
    let attempts = |proxy: &Proxy, name: &str| {
        let series =
            format!("foreshade_endpoint_attempts_total{{cluster=\"shop\",endpoint=\"{name}\",class=\"ok\"}}");
        proxy.metric(&series).unwrap()
    };
    let names = ["a", "a-standby"];
    proxy.wait_until("counted", |p| {
        names.iter().map(|n| attempts(p, n)).sum::<f64>() >= f64::from(USERS)
    });
    let counted = names.map(|name| attempts(&proxy, name));
    let medians = names.map(|name| proxy.endpoint(name)["p50_us"].as_u64().unwrap());
    assert!(counted.iter().all(|n| *n > 0.0), "{counted:?}");

    controller.enact(2, vec![directed("a", 1.0)]);
    controller.enact(3, vec![promoted()]);
    assert_eq!(proxy.endpoint("a-standby")["role"], "primary");
    assert_eq!(proxy.endpoint("a")["role"], "shadow");
    let now = names.map(|name| attempts(&proxy, name));
    let grown = now.iter().zip(counted).all(|(now, before)| *now >= before);
    assert!(grown, "nobody starts at zero: {now:?} {counted:?}");
    assert!(medians.iter().all(|us| *us > 0));
    until_served(&mut proxy, 1.0);

    // A reload of the file, which knows nothing of the promotion, leaves it as it is.
    let file = fs::read_to_string(proxy.folder.join("foreshade.yaml")).unwrap();
    let (status, said) = proxy.reload(&file.replace("timeout: 2s", "timeout: 3s"));
    assert_eq!(status, 200, "{said}");
    assert_eq!(proxy.endpoint("a-standby")["role"], "primary");

    controller.enact(4, vec![pair("a")]);
    assert_eq!(proxy.endpoint("a")["role"], "primary");
    let now = names.map(|name| attempts(&proxy, name));
    assert!(
        now.iter().zip(counted).all(|(now, before)| *now >= before),
        "{now:?} {counted:?}"
    );
    until_served(&mut proxy, 0.0);
}

#[test]
fn first_attempts_are_counted_by_their_draw_and_told_with_their_share() {
    let controller = Controller::start(free_address(), 1);
    let site = Site {
        a: answering("a"),
        // Says 500 to everybody.
        standby: Scripted::start(|stream| {
            let _ = stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
        }),
    };
    // One worker: what the one request shows holds for the next.
    let mut proxy = Proxy::spawn(|place| {
        let text = site.file(
            place,
            &section(controller.address, &place.folder.display().to_string()),
        );
        text.replace("workers: 2", "workers: 1")
    });
    ready(&mut proxy);
    let (us, s) = (Duration::from_micros, Duration::from_secs);
    let under = |share: f64, round: u64| PairPlan {
        round: Round(round),
        thresholds: Some([us(1), us(2), s(60), s(61)]),
        ..directed("a", share)
    };
    // Everybody goes to the standby, from the first request on that is counted at all.
    controller.enact(1, vec![under(1.0, 1)]);
    proxy.wait_until("under analysis", |p| served(p, 0).is_none());
    controller.enact(2, vec![under(0.4, 1)]);
    let failed = 1 + (0..USERS).filter(|user| served(&proxy, *user).is_none()).count() as u64;
    let all = 1 + u64::from(USERS);
    let told = controller.wait_report("all counted", "shop/a", |report| {
        report.arms.iter().map(|arm| arm.requests).sum::<u64>() == all
    });
    let [primary, shadow] = &told.arms;
    assert_eq!((told.round, told.serving), (Round(1), Arm::Primary));
    assert_eq!(
        (primary.errors(), shadow.requests, shadow.status_5xx),
        (0, failed, failed)
    );
    assert_eq!(
        (primary.bytes, shadow.bytes),
        (primary.requests, failed),
        "one byte each"
    );
    assert_eq!(primary.over, [primary.requests, primary.requests, 0, 0]);
    assert!(told.latency[0].total() >= primary.requests);
    // Each probability apart, and all of them together.
    let [first, second] = &told.segments[..] else {
        panic!("two shares: {:?}", told.segments)
    };
    assert_eq!((first.share, first.arms[0].requests), (Share::ONE, 0));
    assert!((second.share.value() - 0.4).abs() < 1e-6);
    let sum = |arm: usize| first.arms[arm].requests + second.arms[arm].requests;
    assert_eq!([sum(0), sum(1)], [primary.requests, shadow.requests]);

    controller.enact(3, vec![under(0.4, 2)]);
    controller.wait_report("a new round", "shop/a", |report| {
        report.round == Round(2) && report.arms.iter().all(|arm| arm.requests == 0)
    });
}

#[test]
fn what_the_proxy_does_not_have_is_told_and_the_rest_is_done() {
    let (site, controller) = (Site::new(), Controller::start(free_address(), 1));
    let mut proxy = site.proxy(controller.address);
    controller.enact(1, vec![directed("a", 1.0), pair("elsewhere")]);
    until_served(&mut proxy, 1.0);
    controller.wait_status("told", "edge", |status| status.unapplied_total == 1);
    assert_eq!(link(&proxy)["unapplied"][0]["pair"], "shop/elsewhere");
    assert_eq!(proxy.metric("foreshade_plan_unapplied_pairs"), Some(1.0));
    // A difference to the plan before travels as that, and is followed all the same.
    controller.enact(2, vec![directed("a", 0.0)]);
    until_served(&mut proxy, 0.0);
    controller.wait_status("told", "edge", |status| status.unapplied_total == 0);
}

#[test]
fn only_who_shows_the_token_is_let_in() {
    let site = Site::new();
    let secret = b"0123456789abcdef-token";
    let controller = Controller::start_with(free_address(), 1, Some(secret), None);
    let with = |token: &'static [u8]| {
        site.proxy_with(|folder| {
            use std::os::unix::fs::PermissionsExt as _;
            let path = format!("{folder}/token");
            fs::write(&path, token).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let plain = section(controller.address, folder);
            plain.replace(" }", &format!(", tokenFile: {path} }}"))
        })
    };
    let mut stranger = with(b"some-other-token-of-them");
    stranger.wait_until("turned away", |p| {
        link(p)["error"]
            .as_str()
            .is_some_and(|error| error.contains("token"))
    });
    assert!(controller.links.proxies().is_empty());
    drop(stranger);
    let _known = with(secret);
    controller.wait_for("let in", |c| c.links.proxies().len() == 1);
}

#[test]
fn what_a_mirror_finds_of_a_shadow_is_told_in_the_round_and_by_the_arm_that_copies_go_to() {
    const REQUESTS: u32 = 60;
    let (site, controller) = (Site::new(), Controller::start(free_address(), 1));
    let mut proxy = Proxy::spawn(|place| {
        let follow = section(controller.address, &place.folder.display().to_string());
        // A machine that is busy with other things is not what this test is about.
        let mirror = "timeout: 2s, mirror: { target: shadow, share: 100%, noise: 50%, timeout: 1h }";
        site.file(place, &follow).replace("timeout: 2s", mirror)
    });
    ready(&mut proxy);
    controller.enact(1, vec![pair("a")]);
    let told = |controller: &Controller| {
        controller.heard(|heard| heard.pairs.get("shop/a").map(|pair| pair.mirrored))
    };
    let compared = |controller: &Controller| {
        let [_, shadow] = told(controller).unwrap_or_default();
        shadow.copies.answers + shadow.controls.answers
    };
    let mut users = 0..USERS;
    // What goes out before the round is known to the workers is nobody's evidence.
    controller.wait_for("told of enough copies", |c| {
        let user = users.next().expect("enough are compared");
        assert_eq!(served(&proxy, user), Some('a'));
        compared(c) >= u64::from(REQUESTS)
    });
    let [primary, shadow] = told(&controller).unwrap();
    assert!(primary.is_zero());
    assert_eq!(
        (shadow.both_good, shadow.pairs()),
        (shadow.copies.answers, shadow.copies.answers)
    );
    // The standby says `s` where the primary says `a`, to users and to whoever asks a second time.
    assert_eq!(shadow.copies.differed, shadow.copies.answers);
    assert_eq!(shadow.controls.differed, 0);
    let of_all = shadow.copies.answers + shadow.controls.answers;
    assert!(
        (of_all / 4..=of_all * 3 / 4).contains(&shadow.controls.answers),
        "{shadow:?}"
    );
    assert_eq!(shadow.control_millionths, 500_000);
    // The next round begins at nothing.
    let next = PairPlan {
        round: Round(2),
        ..pair("a")
    };
    controller.enact(2, vec![next]);
    // Fewer than would be seen beside those of the round before, and not all before the workers know of this one.
    let mut users = 1..REQUESTS;
    controller.wait_for("told of fewer copies", |c| {
        if let Some(user) = users.next() {
            assert_eq!(served(&proxy, user), Some('a'));
            std::thread::sleep(Duration::from_millis(50));
        }
        (1..u64::from(REQUESTS)).contains(&compared(c))
    });
}
