//! From an accepted connection to one that speaks TLS, or to a counted reason why it does not.
//!
//! A client owes the whole handshake within the time of a head, from the moment he is let in: a TLS client speaks first,
//! and one who does not is holding a place. How many may be in it at a time is bounded by [`super::door`]. Who speaks
//! plain HTTP to a port of TLS is told so in plain HTTP; a wrong scheme in a link is the commonest reason, and an alert
//! would tell its author nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::Error;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;

use super::accept::Guard;
use super::conn::Conn;
use super::connections::{Failed, Handshake};
use super::local;
use crate::framing::Refusal;
use crate::socket::Socket;
use crate::tcp::hello::alert;
use crate::tls::{Agreed, SEALED_BYTES_MAX, Termination, Version};

/// The type of a record that begins a handshake. Source: RFC 8446 section 5.1.
const HANDSHAKE_RECORD: u8 = 0x16;

/// A connection that was not secured.
#[derive(Debug)]
pub(super) enum Unsecured {
    /// The handshake came to nothing.
    Failed(Failed),
    /// It is HTTP in the clear; there is somebody to be told.
    Plain(Box<Conn>),
    /// An authority has seen what it wanted to: whether the name leads here. There is nothing more to be said.
    Proven(Handshake),
}

/// Has the handshake done with `tls`, within the time that a head may take.
pub(super) async fn secure(
    tcp: TcpStream,
    client: SocketAddr,
    tls: &Termination,
    guard: &Guard,
) -> Result<(Conn, Handshake), Unsecured> {
    let deadline = Instant::now() + guard.limits.head_timeout;
    let gone = |_| Unsecured::Failed(Failed::Gone);
    tcp.set_nodelay(true).map_err(gone)?;
    let mut first = [0];
    match timeout_at(deadline, tcp.peek(&mut first)).await {
        Err(_) => return Err(Unsecured::Failed(Failed::Slow)),
        Ok(Err(_) | Ok(0)) => return Err(Unsecured::Failed(Failed::Gone)),
        // Every method begins with a letter, and so does the preface of HTTP/2.
        Ok(Ok(_)) if first[0].is_ascii_alphabetic() => {
            return Err(Unsecured::Plain(Box::new(Conn::over(Socket::Plain(tcp), client))));
        }
        Ok(Ok(_)) if first[0] != HANDSHAKE_RECORD => return Err(Unsecured::Failed(Failed::Malformed)),
        Ok(Ok(_)) => {}
    }
    // Not before: who says nothing has a place among connections, and takes none among handshakes.
    let Some(_greeting) = guard.door.greet(&guard.limits) else {
        return Err(Unsecured::Failed(Failed::TooMany));
    };
    match timeout_at(deadline, shake(tcp, tls)).await {
        Err(_) => Err(Unsecured::Failed(Failed::Slow)),
        Ok(Err(unsecured)) => Err(unsecured),
        Ok(Ok((socket, handshake))) => Ok((Conn::over(socket, client), handshake)),
    }
}

async fn shake(tcp: TcpStream, tls: &Termination) -> Result<(Socket<Arc<Agreed>>, Handshake), Unsecured> {
    let failed = |error: io::Error| Unsecured::Failed(why(&error));
    let hello = LazyConfigAcceptor::new(Acceptor::default(), tcp).await;
    let hello = hello.map_err(failed)?;
    if tls.proves()
        && let Some(proof) = local::proof(&hello.client_hello())
    {
        let mut stream = hello.into_stream(proof).await.map_err(failed)?;
        let handshake = done(&Agreed::of(stream.get_ref().1, false));
        // It may have closed already.
        let _ = stream.shutdown().await;
        return Err(Unsecured::Proven(handshake));
    }
    if !tls.knows(hello.client_hello().server_name()) {
        // A new connection takes so much at once. If not, it closes without a word.
        let _ = hello.io.try_write(&alert(Refusal::NameUnknown));
        return Err(Unsecured::Failed(Failed::NameUnknown));
    }
    let accepted = hello.into_stream_with(tls.config().clone(), |connection| {
        connection.set_buffer_limit(Some(SEALED_BYTES_MAX));
    });
    let stream = accepted.await.map_err(failed)?;
    let agreed = Agreed::of(stream.get_ref().1, tls.asks());
    let handshake = done(&agreed);
    Ok((Socket::secured(stream, agreed), handshake))
}

/// What has been done, as it is counted.
fn done(agreed: &Agreed) -> Handshake {
    match (agreed.version, agreed.resumed) {
        (Version::Tls12, false) => Handshake::Tls12,
        (Version::Tls12, true) => Handshake::Tls12Resumed,
        (Version::Tls13, false) => Handshake::Tls13,
        (Version::Tls13, true) => Handshake::Tls13Resumed,
    }
}

/// What has gone wrong, as it is counted.
fn why(error: &io::Error) -> Failed {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::NoCertificatesPresented) => Failed::CertificateMissing,
        Some(Error::InvalidCertificate(_)) => Failed::CertificateInvalid,
        Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => Failed::Incompatible,
        Some(Error::AlertReceived(_)) => Failed::Alerted,
        Some(_) => Failed::Malformed,
        // The connection, and not what was said on it.
        None => Failed::Gone,
    }
}
