//! The farm's control: faults in, counts and ledger out, over a tiny HTTP/1.1 with JSON.
//!
//! | request | meaning |
//! |---|---|
//! | `POST /fault/{name}` | replace what is wrong with an endpoint by the fault or the list in the body: see below |
//! | `DELETE /fault/{name}` | heal |
//! | `GET /faults` | what is wrong with whom |
//! | `GET /counts` | what each endpoint has done, see [`crate::farm::EndpointCounts`] |
//! | `GET /ledger` | writes that took effect, see [`crate::farm::ledger::LedgerReport`] |
//! | `POST /ledger/missing` | of the writes in the body, `[7,8,9]`, that users were told are done: which never did |
//! | `DELETE /ledger` | begin anew, for a load that counts its requests from 0 again |
//!
//! A fault is [`crate::farm::fault::Fault`]: `{"kind":"slow","factor":10}`, or
//! `[{"kind":"errors","share":0.05,"path_prefix":"/e"},{"kind":"pause","for":"500ms","every":"10s"}]`. Its times count from
//! when it is set; a fault that is in the list already goes on as it was. A mistake is answered with 400, and changes
//! nothing; an endpoint that is not there with 404; both say what is wrong as `{"error":"..."}`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::farm::endpoint::{FaultError, Shared};
use crate::farm::fault::Fault;
use crate::farm::ledger::Ledger;
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
    let of_fault = path.strip_prefix("/fault/");
    match (method, path.as_ref(), of_fault) {
        (b"POST", _, Some(name)) => match faults(body) {
            Ok(faults) => set(farm, name, &faults),
            Err(why) => ("400 Bad Request", problem(&why)),
        },
        (b"DELETE", _, Some(name)) => set(farm, name, &[]),
        (b"GET", "/faults", _) => json(&farm.faults()),
        (b"GET", "/counts", _) => json(&farm.counts()),
        (b"GET", "/ledger", _) => json(&farm.ledger().report()),
        (b"POST", "/ledger/missing", _) => match serde_json::from_slice::<Vec<u64>>(body) {
            Ok(answered) => json(&farm.ledger().missing(&answered)),
            Err(error) => (
                "400 Bad Request",
                problem(&format!("expected a list of request numbers: {error}")),
            ),
        },
        (b"DELETE", "/ledger", _) => {
            *farm.ledger() = Ledger::default();
            json(&farm.ledger().report())
        }
        _ => (
            "404 Not Found",
            problem(
                "try POST or DELETE /fault/{name}, GET /faults, GET /counts, GET or DELETE /ledger, or POST /ledger/missing",
            ),
        ),
    }
}

/// One fault, or a list.
fn faults(body: &[u8]) -> Result<Vec<Fault>, String> {
    // Told apart by the first byte and not by trying both, so that a mistake in one of them is the mistake that is
    // reported.
    let list = body.trim_ascii_start().starts_with(b"[");
    let read = if list {
        serde_json::from_slice(body)
    } else {
        serde_json::from_slice(body).map(|fault| vec![fault])
    };
    read.map_err(|error| error.to_string())
}

fn set(farm: &Shared, name: &str, faults: &[Fault]) -> (&'static str, String) {
    match farm.set_faults(name, faults) {
        Ok(()) => json(&farm.faults()),
        Err(unknown @ FaultError::UnknownEndpoint(..)) => ("404 Not Found", problem(&unknown.to_string())),
        Err(error) => ("400 Bad Request", problem(&error.to_string())),
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
