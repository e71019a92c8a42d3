//! Probes in HTTP/2: a request, or a question to the health service of gRPC.
//!
//! The message of the latter has one field, and so has its answer; both are written and read by hand. Source: grpc/grpc
//! `doc/health-checking.md`, `src/proto/grpc/health/v1/health.proto`.

use std::future::poll_fn;
use std::io;
use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};

use super::HEAD_BYTES_MAX;
use crate::config::Probe;
use crate::grpc;
use crate::upstream::connect::To;

/// The method that is called.
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// Bytes before each message of gRPC: whether it is compressed, and how long it is.
const PREFIX: usize = 5;

/// The message that says SERVING: field 1, a number, 1.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 0x01];

/// The field for the name of a service: field 1, a text.
const SERVICE: u8 = 0x0a;

/// Longest answer that is read; the longest that passes has seven bytes.
const ANSWER_BYTES_MAX: usize = 1024;

/// Asks on a new connection. True where the probe passes.
pub(super) async fn ask<T>(io: T, probe: &Probe, to: &To) -> io::Result<bool>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    let (send, connection) = builder.handshake(io).await.map_err(io::Error::other)?;
    let mut connection = pin!(connection);
    let mut asking = pin!(exchange(send, probe, to));
    let answer = tokio::select! {
        biased;
        answer = &mut asking => answer,
        // What has come until here is in its hands.
        _ = &mut connection => asking.await,
    };
    answer.map_err(io::Error::other)
}

async fn exchange(send: SendRequest<Bytes>, probe: &Probe, to: &To) -> Result<bool, h2::Error> {
    let (method, path, host) = match probe {
        Probe::Http { path, host } => (Method::GET, path.as_str(), host),
        Probe::Grpc { host, .. } => (Method::POST, CHECK, host),
        Probe::Tcp | Probe::Udp { .. } => return Ok(true),
    };
    let host = host.clone().unwrap_or_else(|| to.address.to_string());
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}://{host}{path}", to.scheme()))
        .header(USER_AGENT, concat!("foreshade-probe/", env!("CARGO_PKG_VERSION")));
    let message = match probe {
        Probe::Grpc { service, .. } => {
            request = request.header(CONTENT_TYPE, grpc::CONTENT).header(TE, "trailers");
            Some(question(service))
        }
        _ => None,
    };
    // Path and host were checked when the configuration was read.
    let Ok(request) = request.body(()) else {
        return Ok(false);
    };
    let (answer, mut sending) = send.ready().await?.send_request(request, message.is_none())?;
    let Some(message) = message else {
        return Ok(answer.await?.status().as_u16() < 400);
    };
    sending.send_data(message, true)?;
    let (head, mut body) = answer.await?.into_parts();
    let mut said = BytesMut::new();
    while let Some(piece) = body.data().await {
        said.put(piece?);
        if said.len() > ANSWER_BYTES_MAX {
            return Ok(false);
        }
    }
    let trailers = poll_fn(|cx| body.poll_trailers(cx)).await?.unwrap_or_default();
    let is_ok = |headers| grpc::Status::of(headers).code() == 0;
    Ok(head.status == 200 && is_ok(&trailers) && said == SERVING)
}

/// The message that asks for a service.
fn question(service: &str) -> Bytes {
    let mut field = BytesMut::new();
    if !service.is_empty() {
        field.put_u8(SERVICE);
        put_length(service.len(), &mut field);
        field.put_slice(service.as_bytes());
    }
    let mut message = BytesMut::with_capacity(PREFIX + field.len());
    message.put_u8(0);
    message.put_u32(u32::try_from(field.len()).unwrap_or_default());
    message.put(field);
    message.freeze()
}

/// A number in as many bytes as it needs, seven bits in each, the lowest first.
fn put_length(mut length: usize, out: &mut BytesMut) {
    loop {
        let low = u8::try_from(length & 0x7f).unwrap_or_default();
        length >>= 7;
        if length == 0 {
            return out.put_u8(low);
        }
        out.put_u8(low | 0x80);
    }
}
