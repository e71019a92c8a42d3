//! Whether there is anybody to load: asked once, before the first request, so that a slip in the address is an error at
//! once and not a page of failures.
//!
//! All addresses of a name are tried in the resolver's order, and the load goes to the first that takes a connection and,
//! where TLS is spoken, completes a handshake.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::load::stream::Dialler;
use crate::load::tls::Tls;

/// Longest wait for one connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two attempts of those who wait for a target that is not there yet.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Finds an address of `server` (host and port) that takes connections, and keeps trying for `wait`.
///
/// # Errors
/// When there is none: the reason of the last attempt.
pub async fn reach(server: &str, tls: Option<&Tls>, wait: Duration) -> io::Result<SocketAddr> {
    let until = Instant::now() + wait;
    loop {
        let error = match attempt(server, tls).await {
            Ok(address) => return Ok(address),
            Err(error) => error,
        };
        if Instant::now() >= until {
            return Err(error);
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn attempt(server: &str, tls: Option<&Tls>) -> io::Result<SocketAddr> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in server.to_socket_addrs()?.take(ADDRESSES_MAX) {
        let dialler = Dialler::new(address, tls.cloned());
        match tokio::time::timeout(PATIENCE, dialler.dial()).await {
            Ok(Ok(_)) => return Ok(address),
            Ok(Err(error)) => last = error,
            Err(_) => {
                last = io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection within {PATIENCE:?}"),
                )
            }
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_target_is_reached_when_it_listens_and_not_before() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(
            reach(&address.to_string(), None, Duration::ZERO).await.unwrap(),
            address
        );
        drop(listener);
        let refused = reach(&address.to_string(), None, Duration::ZERO)
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn who_waits_reaches_a_target_that_comes_later() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server = address.to_string();
        // Polled in this order: it was refused once before anybody listens.
        let (reached, _listener) = tokio::join!(reach(&server, None, Duration::from_secs(60)), async {
            TcpListener::bind(address).unwrap()
        });
        assert_eq!(reached.unwrap(), address);
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_an_error() {
        assert!(
            reach("no-such-host.invalid:80", None, Duration::ZERO)
                .await
                .is_err()
        );
    }
}
