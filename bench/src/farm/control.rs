//! The farm's control: faults in, counts and ledger out, over a tiny HTTP/1.1 with JSON.
//!
//! | request | meaning |
//! |---|---|
//! | `POST /fault/{name}` | set the fault in the body, for example `{"kind":"slow","factor":10}` |
//! | `DELETE /fault/{name}` | heal |
//! | `GET /faults` | what is wrong with whom |
//! | `GET /counts` | what each endpoint has done, see [`crate::farm::EndpointCounts`] |
//! | `GET /ledger` | writes that took effect, see [`crate::farm::ledger::LedgerReport`] |

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::farm::Shared;
use crate::farm::fault::Fault;
use crate::wire;

/// Pause after a failed accept.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Serves until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, farm: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let farm = Arc::clone(&farm);
                // A broken control connection concerns only its peer, who sees it end.
                tokio::task::spawn_local(async move { drop(connection(stream, &farm).await) });
            }
            Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
        }
    }
}

async fn connection(mut stream: TcpStream, farm: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::new();
    while let Some(request) = wire::read_request(&mut stream, &mut buffer).await? {
        let part = |range: std::ops::Range<usize>| buffer.get(range).unwrap_or_default();
        let method = part(0..request.path.start.saturating_sub(1));
        let (status, body) = answer(
            farm,
            method,
            part(request.path.clone()),
            part(request.body.clone()),
        );
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await?;
        buffer.advance(request.body.end);
        if !request.keep_alive {
            return stream.shutdown().await;
        }
    }
    Ok(())
}

fn answer(farm: &Shared, method: &[u8], path: &[u8], body: &[u8]) -> (&'static str, String) {
    let path = String::from_utf8_lossy(path);
    match (method, path.as_ref()) {
        (b"GET", "/faults") => json(&farm.faults()),
        (b"GET", "/counts") => json(&farm.counts()),
        (b"GET", "/ledger") => json(&farm.ledger_report()),
        (b"POST", path) if path.starts_with("/fault/") => {
            let fault = serde_json::from_slice::<Fault>(body).map_err(|error| error.to_string());
            match fault.and_then(|fault| fault.check().map(|()| fault)) {
                Ok(fault) => set(farm, path, fault),
                Err(why) => ("400 Bad Request", problem(&why)),
            }
        }
        (b"DELETE", path) if path.starts_with("/fault/") => set(farm, path, Fault::Ok),
        _ => (
            "404 Not Found",
            problem("try POST or DELETE /fault/{name}, GET /faults, /counts or /ledger"),
        ),
    }
}

fn set(farm: &Shared, path: &str, fault: Fault) -> (&'static str, String) {
    match farm.set_fault(path.trim_start_matches("/fault/"), fault) {
        Ok(()) => json(&farm.faults()),
        Err(unknown) => ("404 Not Found", problem(&unknown.to_string())),
    }
}

fn json(value: &impl Serialize) -> (&'static str, String) {
    match serde_json::to_string(value) {
        Ok(text) => ("200 OK", text),
        Err(error) => ("500 Internal Server Error", problem(&error.to_string())),
    }
}

fn problem(why: &str) -> String {
    serde_json::json!({ "error": why }).to_string()
}
