//! From an accepted socket to a client who is let in and known, and to the cluster that serves him.
//!
//! The same doors, limits and headers of balancers as at a listener of HTTP. Of TLS the first message is read, as far as
//! it takes to find the name ([`super::hello`]), and goes to the endpoint as the connection's first bytes. Reading it once
//! and keeping it for that moment costs less than leaving it in the kernel: bytes that are only looked at wake nobody when
//! more of them come. Whoever asks for nobody, or for somebody who is not here, gets the alert that says so.

use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::carry::carry;
use super::hello::{self, HELLO_BYTES_MAX, Hello};
use super::pump::abort;
use super::told::Visitor;
use crate::config::Protocol;
use crate::framing::{Limits, Refusal};
use crate::lend;
use crate::proxy_protocol::Ends;
use crate::server::accept::accept_each;
use crate::server::conn::Conn;
use crate::server::door::Door;
use crate::server::entrance::{Entrant, Guest, Refused};
use crate::server::leave::linger;
use crate::server::local;
use crate::topology::ids::ListenerId;
use crate::upstream::connect::keep_alive;
use crate::worker::Carriage;

/// Carries connections until `closing` says so. What is left then are connections that are still carried.
pub(crate) async fn serve(
    socket: TcpListener,
    listener: ListenerId,
    door: Arc<Door>,
    closing: watch::Receiver<bool>,
) -> JoinSet<()> {
    let begin = |tcp, peer| {
        let mut visitor = Visitor::new(listener, protocol(listener)?.1, peer);
        match Entrant::at(listener, (tcp, peer), &door, &limits(listener)) {
            Ok(entrant) => Some(receive(entrant, visitor, closing.clone())),
            Err(refused) => {
                turn_back(*refused, &mut visitor);
                None
            }
        }
    };
    accept_each(socket, closing.clone(), begin).await
}

/// Whether the name has to be read at a listener, and what its protocol is called. `None` where nothing is carried.
fn protocol(listener: ListenerId) -> Option<(bool, &'static str)> {
    local::with(|l| match l.worker.listener(listener)?.protocol {
        Protocol::Http | Protocol::Udp { .. } => None,
        Protocol::Tcp { .. } => Some((false, "TCP")),
        Protocol::TlsPassthrough(_) => Some((true, "TLS")),
    })
    .flatten()
}

fn limits(listener: ListenerId) -> Limits {
    local::with(|l| l.worker.limits(listener).cloned())
        .flatten()
        .unwrap_or_default()
}

/// One connection, from its beginning to its end.
async fn receive(entrant: Entrant, visitor: Visitor, closing: watch::Receiver<bool>) {
    let _open = local::connected();
    // Boxed: it is over soon, and a connection that rests needs no room for it.
    if let Some(carried) = Box::pin(admit(entrant, visitor, closing)).await {
        carried.await;
    }
}

/// Lets a client in and finds out who serves him: what carries his connection, if somebody does.
async fn admit(
    entrant: Entrant,
    mut visitor: Visitor,
    closing: watch::Receiver<bool>,
) -> Option<impl Future<Output = ()> + Send> {
    let limits = limits(visitor.listener);
    let introduced = entrant.introduced(&limits).await;
    let guest = introduced
        .map_err(|refused| turn_back(*refused, &mut visitor))
        .ok()?;
    // A client that is gone already is found out about when something is sent to him.
    let _ = guest.tcp.set_nodelay(true);
    keep_alive(&guest.tcp);
    visitor.ends = ends(&guest);
    let mut said = Vec::new();
    if protocol(visitor.listener)?.0 {
        match asked(&guest.tcp, limits.head_timeout).await {
            Ok((hello, bytes)) => (visitor.name, said) = (hello.name, bytes),
            Err(refusal) => {
                alert(guest, refusal?, &visitor).await;
                return None;
            }
        }
    }
    let client = visitor.ends.client.ip();
    match local::with(|l| l.worker.carry(visitor.listener, visitor.name.as_deref(), client))? {
        Carriage::Forward(flow) => Some(carry(guest, visitor, said, flow, closing)),
        Carriage::Refused(refusal) => {
            alert(guest, refusal, &visitor).await;
            None
        }
        Carriage::Unrouted => {
            abort(&guest.tcp);
            None
        }
    }
}

/// The two ends of the client's connection, by his balancer's word or as the kernel has them.
fn ends(guest: &Guest) -> Ends {
    let own = || guest.tcp.local_addr().ok();
    Ends {
        client: guest.client,
        server: guest
            .server
            .or_else(own)
            .unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0))),
    }
}

/// What a client of TLS asks for, and the bytes that say so. `Err` with `None` where he has gone without a word.
async fn asked(tcp: &TcpStream, limit: Duration) -> Result<(Hello, Vec<u8>), Option<Refusal>> {
    let mut bytes = Vec::new();
    let read = async {
        loop {
            tcp.readable().await.map_err(|_| None)?;
            let room = HELLO_BYTES_MAX.saturating_sub(bytes.len());
            let came = lend::with_buffer(|buffer| {
                let room = room.min(buffer.len());
                let came = tcp.try_read(buffer.get_mut(..room).unwrap_or_default())?;
                bytes.extend_from_slice(buffer.get(..came).unwrap_or_default());
                Ok::<_, std::io::Error>(came)
            });
            match came {
                Ok(0) if bytes.is_empty() => return Err(None),
                Ok(0) => return Err(Some(Refusal::HelloMalformed)),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => continue,
                Err(_) => return Err(None),
            }
            if let Some(hello) = hello::read(&bytes)? {
                return Ok(hello);
            }
        }
    };
    match timeout(limit, read).await {
        Ok(hello) => Ok((hello?, bytes)),
        Err(_) => Err(Some(Refusal::HelloSlow)),
    }
}

/// Refuses a client who has begun to speak TLS, and says why.
async fn alert(guest: Guest, refusal: Refusal, visitor: &Visitor) {
    refuse(refusal, visitor);
    // What nobody has been sent yet takes so much at once.
    let _ = guest.tcp.try_write(&hello::alert(refusal));
    if let Ok(conn) = Conn::new(guest.tcp, guest.client) {
        linger(conn).await;
    }
}

/// Refuses somebody of whom no word has been read that he would understand.
fn turn_back((tcp, client, refusal): Refused, visitor: &mut Visitor) {
    visitor.ends.client = client;
    refuse(refusal, visitor);
    abort(&tcp);
}

fn refuse(refusal: Refusal, visitor: &Visitor) {
    local::with(|l| l.worker.refuse(refusal));
    visitor.tell_refused(refusal);
}
