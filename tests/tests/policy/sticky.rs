//! Users who stay with the endpoint that has answered them first, and move where that one's shift moves them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use foreshade_tests::proxy::{Proxy, free_address};
use foreshade_tests::wire::Scripted;

use crate::ways::{Reply, Way};

/// A file of keys, each made of one letter.
struct Keys(PathBuf);

impl Keys {
    fn new(test: &str, letters: &str) -> Self {
        let keys = Self(std::env::temp_dir().join(format!("foreshade-keys-{}-{test}", std::process::id())));
        keys.write(letters);
        keys
    }

    fn write(&self, letters: &str) {
        let lines = letters
            .chars()
            .map(|letter| format!("{}\n", letter.to_string().repeat(44)));
        let other = self.0.with_extension("new");
        std::fs::write(&other, lines.collect::<String>()).unwrap();
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(other, &self.0).unwrap();
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn named(name: &'static str) -> Scripted {
    Scripted::start(move |stream| {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nSet-Cookie: own=1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{name}",
            name.len()
        );
        stream.write_all(answer.as_bytes()).unwrap();
    })
}

fn clusters(keys: &Keys, endpoints: &str, shadows: &str) -> String {
    format!(
        "clusters:\n  - name: shop\n    health: off\n    balance: round-robin\n    sticky: {{ keysFile: {}, cookie: slot, ttl: \
         1h }}\n    endpoints:\n{endpoints}{shadows}",
        keys.0.display()
    )
}

/// Two endpoints that answer with their names.
fn two(way: Way, keys: &Keys) -> Proxy {
    let (a, b) = (named("a").address, named("b").address);
    let endpoints =
        format!("      - {{ name: a, address: \"{a}\" }}\n      - {{ name: b, address: \"{b}\" }}\n");
    // Who is slow for a moment, as on a busy machine, is no reason to go elsewhere here.
    way.proxy(
        "",
        &["{ cluster: shop, attempts: 1 }"],
        &clusters(keys, &endpoints, ""),
    )
}

/// The cookie that an answer sets, as a browser sends it back.
fn cookie(reply: &Reply) -> Option<String> {
    let mut cookies = reply.headers.get_all("set-cookie").iter();
    let set = cookies.find_map(|value| value.to_str().unwrap().strip_prefix("slot="))?;
    Some(format!("slot={}", set.split(';').next().unwrap()))
}

fn counted(proxy: &mut Proxy, result: &str, count: u32) {
    let series = format!("foreshade_sticky_answers_total{{cluster=\"shop\",result=\"{result}\"}}");
    proxy.wait_until(&format!("aware of {count} {result}"), |proxy| {
        proxy.metric(&series) == Some(f64::from(count))
    });
}

#[test]
fn a_user_stays_with_who_answered_him_first_and_newcomers_are_balanced() {
    for way in Way::ALL {
        let keys = Keys::new(&format!("stays-{way:?}"), "A");
        let mut proxy = two(way, &keys);
        let mut seen = BTreeSet::new();
        for _ in 0..4 {
            let first = way.get(&proxy, "/", &[]);
            assert_eq!(
                first.headers.get_all("set-cookie").iter().count(),
                2,
                "{way:?}: beside the endpoint's own"
            );
            let set = first.header("set-cookie");
            assert!(
                set.ends_with("; Path=/; Max-Age=3600; Secure; HttpOnly; SameSite=Lax"),
                "{way:?}: {set}"
            );
            assert_eq!(first.header("cache-control"), "private", "{way:?}");
            let cookie = cookie(&first).unwrap();
            for _ in 0..3 {
                let again = way.get(&proxy, "/", &[("cookie", &format!("x=1; {cookie}"))]);
                assert_eq!(
                    (again.text(), self::cookie(&again)),
                    (first.text(), None),
                    "{way:?}"
                );
                assert_eq!(again.header("cache-control"), "", "{way:?}");
            }
            seen.insert(first.text());
        }
        assert_eq!(seen.len(), 2, "{way:?}: both serve newcomers");
        counted(&mut proxy, "new", 4);
        counted(&mut proxy, "stayed", 12);
    }
}

#[test]
fn a_cookie_that_nobody_has_signed_is_ignored_counted_and_replaced() {
    for way in Way::ALL {
        let keys = Keys::new(&format!("forged-{way:?}"), "A");
        let mut proxy = two(way, &keys);
        let good = cookie(&way.get(&proxy, "/", &[])).unwrap();
        let forged = format!(
            "{}{}",
            &good[..good.len() - 1],
            if good.ends_with('A') { "E" } else { "A" }
        );
        let mut seen = BTreeSet::new();
        for value in [&forged, "slot=a", "slot=", &forged] {
            let reply = way.get(&proxy, "/", &[("cookie", value)]);
            assert_eq!(reply.status, 200);
            assert!(cookie(&reply).is_some_and(|new| new != *value), "{way:?} {value}");
            seen.insert(reply.text());
        }
        assert_eq!(seen.len(), 2, "{way:?}: he is balanced");
        counted(&mut proxy, "invalid", 4);
    }
}

#[test]
fn who_stays_is_his_shadows_when_his_endpoint_is_gone_and_somebody_elses_where_it_has_none() {
    for way in Way::ALL {
        let keys = Keys::new(&format!("gone-{way:?}"), "A");
        let (a, shadow) = (named("a").address, named("a-standby").address);
        let gone = free_address();
        let pair = |a| {
            clusters(
                &keys,
                &format!(
                    "      - {{ name: a, address: \"{a}\", shadow: a-standby }}\n      - {{ name: b, address: \"{gone}\" }}\n"
                ),
                &format!("    shadows: [{{ name: a-standby, address: \"{shadow}\" }}]\n"),
            )
        };
        let mut proxy = way.proxy("", &["{ cluster: shop }"], &pair(a));
        // Of the two only this one can answer.
        let cookie_of_a = loop {
            let reply = way.get(&proxy, "/", &[]);
            if reply.text() == "a" {
                break cookie(&reply).unwrap();
            }
        };
        // The same endpoint at an address where nobody is: its slot is the same, and he goes to its shadow.
        let file = way.file(
            (proxy.users, proxy.admin),
            "",
            &["{ cluster: shop }"],
            &pair(free_address()),
        );
        assert_eq!(proxy.reload(&file).0, 200);
        for _ in 0..4 {
            let reply = way.get(&proxy, "/", &[("cookie", &cookie_of_a)]);
            assert_eq!(
                (reply.text().as_str(), cookie(&reply)),
                ("a-standby", None),
                "{way:?}"
            );
        }
        // Without a slot of that name he is a newcomer.
        let c = named("c").address;
        let other = clusters(&keys, &format!("      - {{ name: c, address: \"{c}\" }}\n"), "");
        let file = way.file((proxy.users, proxy.admin), "", &["{ cluster: shop }"], &other);
        assert_eq!(proxy.reload(&file).0, 200);
        let reply = way.get(&proxy, "/", &[("cookie", &cookie_of_a)]);
        assert_eq!(reply.text(), "c");
        let cookie_of_c = cookie(&reply).unwrap();
        assert_eq!(cookie(&way.get(&proxy, "/", &[("cookie", &cookie_of_c)])), None);
        counted(&mut proxy, "gone", 1);
    }
}

#[test]
fn a_key_is_exchanged_without_anybody_losing_his_slot() {
    let way = Way::Relay;
    let keys = Keys::new("exchanged", "A");
    let proxy = two(way, &keys);
    let first = way.get(&proxy, "/", &[]);
    let (name, old) = (first.text(), cookie(&first).unwrap());
    let ask = |cookie: &str| way.get(&proxy, "/", &[("cookie", cookie)]);
    keys.write("BA");
    // The file is looked at while requests come.
    let new = loop {
        let reply = ask(&old);
        assert_eq!(reply.text(), name);
        if let Some(new) = cookie(&reply) {
            break new;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!(cookie(&ask(&new)), None);
    keys.write("B");
    while cookie(&ask(&old)).is_none_or(|renewed| renewed == new) && ask(&old).text() == name {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(
        (ask(&new).text(), cookie(&ask(&new))),
        (name, None),
        "who has the new one stays"
    );
}

#[test]
fn without_keys_nobody_stays_and_everybody_is_served() {
    for way in Way::ALL {
        let keys = Keys::new(&format!("none-{way:?}"), "");
        let mut proxy = two(way, &keys);
        let reply = way.get(&proxy, "/", &[("cookie", "slot=abc")]);
        assert_eq!((reply.status, cookie(&reply)), (200, None));
        counted(&mut proxy, "unreadable", 1);
        keys.write("A");
        proxy.wait_until("signing", |proxy| cookie(&way.get(proxy, "/", &[])).is_some());
    }
}
