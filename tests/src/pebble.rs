//! Pebble, Let's Encrypt's authority for tests: it speaks ACME as theirs does (RFC 8555, strictly), looks whether names
//! lead where they should over real sockets, and turns down one nonce of twenty: a dozen requests have three tries each,
//! and with one of five an order of ten would fail.

use std::fs;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::certificates::Folder;
use crate::proxy::{PATIENCE, free_address};

/// A running authority.
#[derive(Debug)]
pub struct Pebble {
    /// Where it listens.
    pub address: SocketAddr,
    /// File with who vouches for its own certificate.
    pub ca_file: PathBuf,
    management: SocketAddr,
    folder: Folder,
    child: Child,
}

/// An account that it asks for: the name of its key, and the key in base64url.
pub const EXTERNAL: (&str, &str) = (
    "kid-1",
    "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W",
);

impl Pebble {
    /// Starts one that looks for names with the name server, at these ports: for requests in the clear, and in TLS. `None`
    /// where there is no such program, which is said.
    ///
    /// # Panics
    /// When it does not start.
    #[expect(
        clippy::print_stderr,
        reason = "a check that was skipped has to be seen where it was skipped"
    )]
    pub fn start(name_server: SocketAddr, http: u16, tls: u16, external: bool) -> Option<Self> {
        let folder = Folder::new();
        let authority = folder.authority("minica");
        let own = authority.issue("pebble", &["localhost"]);
        let (address, management) = (free_address(), free_address());
        let config = json!({ "pebble": {
            "listenAddress": address.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": own.certificate,
            "privateKey": own.key,
            "httpPort": http,
            "tlsPort": tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": external,
            "externalAccountMACKeys": { EXTERNAL.0: EXTERNAL.1 },
        }});
        let config = folder.file("pebble.json", config.to_string());
        let log = fs::File::create(folder.path().join("log")).expect("the folder is writable");
        let started = Command::new("pebble")
            .args(["-strict", "-config"])
            .arg(&config)
            .args(["-dnsserver", &name_server.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0")
            .env("PEBBLE_WFE_NONCEREJECT", "5")
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(Stdio::from(log))
            .spawn();
        let child = match started {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                eprintln!("SKIPPED: it takes an ACME server; on Debian: apt-get install pebble");
                return None;
            }
            Err(error) => panic!("pebble does not start: {error}"),
        };
        let mut pebble = Self {
            address,
            ca_file: authority.file,
            management,
            folder,
            child,
        };
        pebble.wait();
        Some(pebble)
    }

    /// URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.address.port())
    }

    /// File with who vouches for what it issues.
    ///
    /// # Panics
    /// When it does not say.
    pub fn root(&self) -> PathBuf {
        let pem = self.ask("roots/0").expect("its root");
        self.folder.file("root.pem", pem)
    }

    /// What it has said so far.
    ///
    /// # Panics
    /// When its log is gone.
    pub fn said(&self) -> String {
        let mut text = String::new();
        let log = fs::File::open(self.folder.path().join("log"));
        log.and_then(|mut log| log.read_to_string(&mut text))
            .expect("its log");
        text
    }

    fn ask(&self, what: &str) -> Option<Vec<u8>> {
        let url = format!("https://{}/{what}", self.management);
        let output = Command::new("curl")
            .args(["--silent", "--fail", "--insecure", "--max-time", "10", &url])
            .output()
            .expect("curl is installed");
        output.status.success().then_some(output.stdout)
    }

    fn wait(&mut self) {
        let begun = std::time::Instant::now();
        while self.ask("roots/0").is_none() {
            assert!(
                begun.elapsed() < PATIENCE,
                "pebble does not listen: {}",
                self.said()
            );
            let ended = self.child.try_wait().expect("its state can be asked");
            assert!(ended.is_none(), "pebble has ended: {}", self.said());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
