//! Certificates that an authority issues when it is asked: how the first one comes, what is shown meanwhile, how one is
//! renewed, and what becomes of names that do not lead here. The authority is Pebble.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use foreshade_tests::certificates::{Authority, Folder, ask, client, secure};
use foreshade_tests::dns::{NameServer, Record};
use foreshade_tests::pebble::{EXTERNAL, Pebble};
use foreshade_tests::proxy::{Proxy, free_address, preamble};
use foreshade_tests::recording::Recording;
use foreshade_tests::wire::exchange;

const GET: &str = "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\n";
const H1: &[&[u8]] = &[b"http/1.1"];

struct Stage {
    proxy: Proxy,
    /// Its listener in the clear.
    plain: SocketAddr,
    /// The one that speaks TLS.
    secret: SocketAddr,
    pebble: Pebble,
    endpoint: Recording,
    _folder: Folder,
}

/// A configuration that orders a certificate for these names by this challenge.
fn config(
    (plain, secret, admin): (SocketAddr, SocketAddr, SocketAddr),
    directory: &str,
    (storage, ca_file): (&Path, &Path),
    (names, challenge, more): (&str, &str, &str),
    endpoint: &Recording,
) -> String {
    format!(
        "{}acme:\n  directory: {directory}\n  contacts: [\"mailto:ops@shop.example\"]\n  termsOfServiceAgreed: true\n  \
         storage: {}\n  caFile: {}\n{more}listeners:\n  - name: plain\n    address: \"{plain}\"\n    routes: [{{ cluster: \
         shop }}]\n  - name: web\n    address: \"{secret}\"\n    tls:\n      certificates: [{{ acme: {{ names: {names}, \
         challenge: {challenge} }} }}]\n    routes: [{{ cluster: shop }}]\n{}",
        preamble(admin),
        storage.display(),
        ca_file.display(),
        endpoint.clusters()
    )
}

/// A proxy that orders a certificate for these names (YAML) by this challenge; what it has kept is what `prepare` puts
/// there. `None` where there is no authority.
fn start(
    (names, challenge): (&str, &str),
    external: bool,
    prepare: impl FnOnce(&Folder, PathBuf),
) -> Option<Stage> {
    let name_server = NameServer::start();
    for name in ["shop.example", "www.shop.example"] {
        name_server.set(name, 60, &[Record::A(Ipv4Addr::LOCALHOST)]);
    }
    let (endpoint, folder) = (Recording::start(), Folder::new());
    let (plain, secret) = (free_address(), free_address());
    let pebble = Pebble::start(name_server.address, plain.port(), secret.port(), external)?;
    let storage = folder.path().join("acme");
    prepare(
        &folder,
        storage.join(format!("localhost%3A{}%2Fdir", pebble.address.port())),
    );
    let key = folder.file("external.key", EXTERNAL.1);
    let bound = match external {
        true => format!(
            "  externalAccount: {{ keyId: {}, keyFile: {} }}\n",
            EXTERNAL.0,
            key.display()
        ),
        false => String::new(),
    };
    let proxy = Proxy::start_with(|_, admin| {
        let files = (storage.as_path(), pebble.ca_file.as_path());
        let order = (names, challenge, bound.as_str());
        config(
            (plain, secret, admin),
            &pebble.directory(),
            files,
            order,
            &endpoint,
        )
    });
    Some(Stage {
        proxy,
        plain,
        secret,
        pebble,
        endpoint,
        _folder: folder,
    })
}

impl Stage {
    /// Waits until clients that trust the authority get in under this name.
    fn is_trusted(&mut self, name: &str) {
        let config = client(&self.pebble.root(), None, H1);
        let secret = self.secret;
        self.proxy.wait_until("showing what was issued", |_| {
            secure(secret, name, &config).is_ok()
        });
        let mut stream = secure(secret, name, &config).unwrap();
        assert!(ask(&mut stream, GET).starts_with(OK));
    }

    fn counts(&mut self, result: &str) {
        let name = format!("foreshade_acme_orders_total{{name=\"shop.example\",result=\"{result}\"}}");
        self.proxy
            .wait_until(result, |p| p.metric(&name).is_some_and(|n| n > 0.0));
    }

    fn gauge(&self, name: &str) -> Option<f64> {
        self.proxy.metric(&format!("{name}{{name=\"shop.example\"}}"))
    }
}

#[test]
fn a_certificate_is_issued_by_a_request_in_the_clear_and_kept() {
    let mut seen = None;
    let names = "[shop.example, www.shop.example]";
    let Some(mut stage) = start((names, "http-01"), false, |_, kept| seen = Some(kept)) else {
        return;
    };
    stage.counts("issued");
    stage.is_trusted("shop.example");
    stage.is_trusted("www.shop.example");
    assert_eq!(stage.gauge("foreshade_acme_last_order_succeeded"), Some(1.0));
    let kept = seen.unwrap();
    for file in ["shop.example.pem", "account.json"] {
        let mode = std::fs::metadata(kept.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    // A token that is not known is the routes' affair, and so is everything else.
    stage.endpoint.take();
    let other = b"GET /.well-known/acme-challenge/other HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert!(exchange(stage.plain, other).starts_with(OK));
    let seen = String::from_utf8(stage.endpoint.take()).unwrap();
    assert!(
        seen.starts_with("GET /.well-known/acme-challenge/other "),
        "{seen}"
    );
}

#[test]
fn a_certificate_is_issued_by_a_handshake_to_who_has_an_account_elsewhere() {
    let Some(mut stage) = start(("[shop.example]", "tls-alpn-01"), true, |_, _| {}) else {
        return;
    };
    stage.counts("issued");
    stage.is_trusted("shop.example");
    // What was made for the authority ends with the order: nobody speaks its protocol then.
    let config = client(&stage.pebble.root(), None, &[b"acme-tls/1"]);
    let error = secure(stage.secret, "shop.example", &config).unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn a_name_that_leads_elsewhere_is_a_counted_failure_and_harms_nobody() {
    let names = "[shop.example, lost.example]";
    let Some(mut stage) = start((names, "http-01"), false, |_, _| {}) else {
        return;
    };
    stage.counts("failed");
    assert_eq!(stage.gauge("foreshade_acme_last_order_succeeded"), Some(0.0));
    // What stands in for it is believed by nobody, and serves whoever does not ask.
    let config = client(&stage.pebble.root(), None, H1);
    let error = secure(stage.secret, "shop.example", &config).unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    let served = std::process::Command::new("curl")
        .args(["--silent", "--insecure", "--max-time", "20"])
        .arg(format!("https://{}/", stage.secret))
        .output()
        .expect("curl is installed");
    assert_eq!(String::from_utf8_lossy(&served.stdout), "ok\n");
    assert!(
        exchange(
            stage.plain,
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        .starts_with(OK)
    );
}

/// Puts a certificate there that a proxy has ordered eighty days ago, for ninety. What is returned vouches for it.
fn keep_old(folder: &Folder, kept: &Path) -> Authority {
    std::fs::create_dir_all(kept).unwrap();
    let authority = folder.authority("old");
    let files = authority.issue_aged("kept", &["shop.example"], 80, 10);
    let pem = [files.certificate, files.key].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(kept.join("shop.example.pem"), pem.concat()).unwrap();
    authority
}

#[test]
fn a_kept_certificate_is_renewed_in_its_last_third() {
    let prepare = |folder: &Folder, kept: PathBuf| drop(keep_old(folder, &kept));
    let Some(mut stage) = start(("[shop.example]", "tls-alpn-01"), false, prepare) else {
        return;
    };
    stage.counts("issued");
    stage.is_trusted("shop.example");
    // And not once more for a long time.
    let next = stage
        .gauge("foreshade_acme_next_order_timestamp_seconds")
        .unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!(next > now.as_secs_f64() + 24.0 * 3600.0, "{next}");
}

#[test]
fn a_proxy_without_its_authority_starts_and_shows_what_it_has_kept() {
    let (folder, endpoint, nobody, secret) =
        (Folder::new(), Recording::start(), free_address(), free_address());
    let storage = folder.path().join("acme");
    let old = keep_old(
        &folder,
        &storage.join(format!("127.0.0.1%3A{}%2Fdir", nobody.port())),
    );
    let mut proxy = Proxy::start_with(|users, admin| {
        let directory = format!("https://127.0.0.1:{}/dir", nobody.port());
        let files = (storage.as_path(), old.file.as_path());
        config(
            (users, secret, admin),
            &directory,
            files,
            ("[shop.example]", "http-01", ""),
            &endpoint,
        )
    });
    let trusting = client(&old.file, None, H1);
    let mut stream = secure(secret, "shop.example", &trusting).unwrap();
    assert!(ask(&mut stream, GET).starts_with(OK));
    let failed = "foreshade_acme_orders_total{name=\"shop.example\",result=\"failed\"}";
    proxy.wait_until("aware of it", |p| p.metric(failed) == Some(1.0));
    assert!(secure(secret, "shop.example", &trusting).is_ok());
}
