//! A real Prometheus that scrapes one target, where the machine has it: `apt-get install prometheus`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use foreshade_bench::client;
use serde_json::Value;

use crate::proxy::{PATIENCE, free_address};

/// A running Prometheus; dropping it kills it.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    child: Child,
    folder: PathBuf,
}

impl Prometheus {
    /// Starts one that scrapes this address every second. Where there is none, says so on standard error: `None`.
    ///
    /// # Panics
    /// When it does not start.
    #[expect(
        clippy::print_stderr,
        reason = "a check that was skipped has to be seen where it was skipped"
    )]
    pub fn scraping(target: SocketAddr, options: &[&str]) -> Option<Self> {
        let address = free_address();
        let folder = std::env::temp_dir().join(format!("foreshade-prometheus-{}", address.port()));
        fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let file = folder.join("prometheus.yml");
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n  - job_name: foreshade\n    \
             static_configs: [{{ targets: [\"{target}\"] }}]\n"
        );
        fs::write(&file, config).expect("the temporary folder is writable");
        let started = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match started {
            Ok(child) => Some(Self {
                address,
                child,
                folder,
            }),
            Err(error) => {
                eprintln!("SKIPPED: prometheus {options:?}: {error}; apt-get install prometheus");
                let _ = fs::remove_dir_all(&folder);
                None
            }
        }
    }

    /// The value of an expression that has one sample. `None` while it has none.
    ///
    /// # Panics
    /// When the expression is wrong, or has more.
    pub fn value(&self, expression: &str) -> Option<f64> {
        let escape = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        let query: String = expression.bytes().map(escape).collect();
        let path = format!("/api/v1/query?query={query}");
        // It may not listen yet.
        let (status, body) = client::request(self.address, "GET", &path, "").ok()?;
        // Not ready yet.
        if status == 503 {
            return None;
        }
        assert_eq!(status, 200, "{expression}: {body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        let found = answer["data"]["result"].as_array().expect("a vector");
        assert!(found.len() <= 1, "{expression}: {body}");
        found.first()?["value"][1].as_str()?.parse().ok()
    }

    /// Waits until an expression has a value that is as it should be.
    ///
    /// # Panics
    /// When it has none in time.
    pub fn wait_for(&self, expression: &str, is_right: impl Fn(f64) -> bool) -> f64 {
        let begun = Instant::now();
        loop {
            let value = self.value(expression);
            match value.filter(|value| is_right(*value)) {
                Some(value) => return value,
                None => assert!(begun.elapsed() < PATIENCE, "{expression} is still {value:?}"),
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
