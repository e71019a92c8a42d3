//! A blocking HTTP client for JSON: the admin interface of the proxy and the control of the farm.
//!
//! One connection per request, closed by the server: ten requests per second do not need a pool, and a server that was
//! replaced is noticed at once.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

use crate::farm::FarmCounts;
use crate::farm::fault::Fault;
use crate::farm::ledger::{LedgerReport, Missing};

/// Whoever serves JSON on the loopback interface answers sooner, or is in trouble.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Request numbers that are asked after at once: at most 21 bytes each, they fill less than the largest body.
const NUMBERS_MAX: usize = 40_000;

/// Sends one request and returns status and body.
pub fn request(server: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "not a whole HTTP/1.1 answer");
    let head = crate::wire::parse_answer(&answer)?.ok_or_else(broken)?;
    let body = answer.get(head.head_bytes..).unwrap_or_default();
    if body.len() as u64 != head.body_bytes {
        return Err(broken());
    }
    Ok((
        head.status,
        String::from_utf8(body.to_vec()).map_err(|_| broken())?,
    ))
}

/// Sends one request and reads the JSON of a successful answer.
pub fn json<T: DeserializeOwned>(server: SocketAddr, method: &str, path: &str, body: &str) -> Result<T> {
    let (status, answer) =
        request(server, method, path, body).with_context(|| format!("{method} http://{server}{path}"))?;
    if status != 200 {
        bail!("{method} http://{server}{path}: status {status}, {answer}");
    }
    serde_json::from_str(&answer).with_context(|| format!("{method} http://{server}{path}: unexpected JSON"))
}

/// The control of a farm in another process.
#[derive(Clone, Copy, Debug)]
pub struct FarmControl(pub SocketAddr);

impl FarmControl {
    /// Replaces what is wrong with an endpoint; a fault that is there already goes on as it was.
    pub fn set_faults(&self, name: &str, faults: &[Fault]) -> Result<()> {
        let body = serde_json::to_string(faults)?;
        json::<serde_json::Value>(self.0, "POST", &format!("/fault/{name}"), &body).map(drop)
    }

    /// Makes an endpoint healthy again.
    pub fn heal(&self, name: &str) -> Result<()> {
        json::<serde_json::Value>(self.0, "DELETE", &format!("/fault/{name}"), "").map(drop)
    }

    /// What the endpoints have done so far.
    pub fn counts(&self) -> Result<FarmCounts> {
        json(self.0, "GET", "/counts", "")
    }

    /// What the ledger has found so far.
    pub fn ledger(&self) -> Result<LedgerReport> {
        json(self.0, "GET", "/ledger", "")
    }

    /// Of writes that were answered as done, those that never took effect.
    pub fn missing(&self, answered: &[u64]) -> Result<Missing> {
        let mut all = Missing::default();
        for some in answered.chunks(NUMBERS_MAX) {
            let body = serde_json::to_string(some)?;
            let Missing { missing, forgotten } = json(self.0, "POST", "/ledger/missing", &body)?;
            all.missing.extend(missing);
            all.forgotten += forgotten;
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::farm::{Farm, FarmOptions};

    #[test]
    fn a_farm_is_controlled_over_http() {
        let mut options = FarmOptions::on_free_ports(&["a", "b"]);
        options.control = Some("127.0.0.1:0".parse().unwrap());
        let farm = Farm::start(options).unwrap();
        let control = FarmControl(farm.control_address().unwrap());
        control.set_faults("b", &[Fault::slow(10.0)]).unwrap();
        let faults: serde_json::Value = json(control.0, "GET", "/faults", "").unwrap();
        assert_eq!(
            faults["b"],
            serde_json::json!([{ "kind": "slow", "factor": 10.0 }])
        );
        control.heal("b").unwrap();
        let faults: serde_json::Value = json(control.0, "GET", "/faults", "").unwrap();
        assert_eq!(faults["b"], serde_json::json!([]));
        assert_eq!(control.counts().unwrap()["a"].requests(), 0);
        assert_eq!(control.ledger().unwrap(), LedgerReport::default());
    }

    #[test]
    fn a_mistake_is_answered_with_what_is_wrong() {
        let mut options = FarmOptions::on_free_ports(&["a"]);
        options.control = Some("127.0.0.1:0".parse().unwrap());
        let farm = Farm::start(options).unwrap();
        let control = FarmControl(farm.control_address().unwrap());
        let unknown = control.heal("z").unwrap_err().to_string();
        assert!(
            unknown.contains("404") && unknown.contains("no endpoint"),
            "{unknown}"
        );
        let absurd = control
            .set_faults("a", &[Fault::errors(7.0)])
            .unwrap_err()
            .to_string();
        assert!(
            absurd.contains("400") && absurd.contains("between 0 and 1"),
            "{absurd}"
        );
    }
}
