//! A new connection to an endpoint, whoever asks for it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::outcome::Failure;

/// When an idle connection is asked whether its other end still lives, and when it is given up: after 30 seconds.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// Connects, within `limit`.
///
/// # Errors
/// The kernel's, and [`io::ErrorKind::TimedOut`] where it takes too long.
pub(crate) async fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let tcp = timeout(limit, TcpStream::connect(address)).await??;
    // Writes are gathered before they are made.
    tcp.set_nodelay(true)?;
    keep_alive(&tcp);
    Ok(tcp)
}

/// Has the kernel ask now and then whether the other end still lives. Without it a connection is found dead when it is
/// used.
pub(crate) fn keep_alive(tcp: &TcpStream) {
    let _ = SockRef::from(tcp).set_tcp_keepalive(&KEEPALIVE);
}

/// What it means that no connection came about.
pub(crate) fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        _ => Failure::ConnectFailed,
    }
}
