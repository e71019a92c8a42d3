//! How an endpoint of the farm serves: accept, read, work, answer, and what each fault does to sockets.
//!
//! Faults concern open connections as much as new ones, so every wait also watches the endpoint's setting.
//!
//! Service times come from tokio's timer, which rounds up to milliseconds; [`TIMER_LATE`] takes the mean of that back.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use crate::farm::fault::Fault;
use crate::farm::service_time::ServiceTime;
use crate::farm::{Endpoint, FarmOptions, Setting, Shared, path_index};
use crate::wire;

/// How late tokio's timer fires on average: half a millisecond of rounding up, and the wait for its own tick.
const TIMER_LATE: Duration = Duration::from_micros(1_000);

/// Open connections per endpoint; more are closed at once and counted.
const CONNECTIONS_MAX: u64 = 8_192;

/// Most bytes of a body that a request may ask for, with `?bytes=N`.
const BODY_BYTES_ASKED_MAX: usize = 1024 * 1024;

/// What large bodies are made of, piece by piece: a connection that has once answered with one must not hold it for ever.
const FILLER: [u8; 16 * 1024] = [b'x'; 16 * 1024];

/// Pause after a failed accept or bind, so that a full file table or a busy port does not become a busy loop.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// What the tasks of the farm's own thread share.
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    service_time: ServiceTime,
    body: String,
    rng: RefCell<StdRng>,
}

/// What becomes of a request that is being worked on.
enum Fate {
    Answer,
    /// The connection was closed under it.
    Lost,
}

impl Core {
    pub(crate) fn new(shared: Arc<Shared>, options: &FarmOptions) -> Self {
        Self {
            shared,
            service_time: options.service_time,
            body: "x".repeat(options.body_bytes),
            rng: RefCell::new(StdRng::seed_from_u64(options.seed)),
        }
    }

    /// Accepts for one endpoint for as long as the farm lives, and leaves its port while it refuses.
    pub(crate) async fn accept(self: Rc<Self>, index: usize, listener: TcpListener) {
        let Some(endpoint) = self.shared.endpoints.get(index) else {
            return;
        };
        let Ok(address) = listener.local_addr() else {
            return;
        };
        let mut setting = endpoint.setting.subscribe();
        let mut listener = Some(listener);
        loop {
            let Some(open) = &listener else {
                if setting.wait_for(|setting| !refuses(setting)).await.is_err() {
                    return;
                }
                match listen(address) {
                    Ok(reopened) => listener = Some(reopened),
                    // Somebody else took the port meanwhile; it is ours again as soon as they leave.
                    Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
                }
                continue;
            };
            tokio::select! {
                _ = setting.wait_for(refuses) => listener = None,
                accepted = open.accept() => match accepted {
                    Ok((stream, _)) => {
                        tokio::task::spawn_local(Rc::clone(&self).connection(index, stream));
                    }
                    Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
                },
            }
        }
    }

    async fn connection(self: Rc<Self>, index: usize, stream: TcpStream) {
        let Some(endpoint) = self.shared.endpoints.get(index) else {
            return;
        };
        bump(&endpoint.connections);
        if endpoint.open.fetch_add(1, Ordering::Relaxed) < CONNECTIONS_MAX {
            // A peer that breaks the protocol or goes away loses its connection, that is all.
            let _ = self.serve(index, endpoint, stream).await;
        } else {
            bump(&endpoint.connections_refused);
        }
        endpoint.open.fetch_sub(1, Ordering::Relaxed);
    }

    async fn serve(&self, index: usize, endpoint: &Endpoint, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut setting = endpoint.setting.subscribe();
        let mut buffer = BytesMut::with_capacity(1024);
        let mut answer = String::new();
        loop {
            let request = tokio::select! {
                biased;
                _ = setting.wait_for(refuses) => return Ok(()),
                request = wire::read_request(&mut stream, &mut buffer) => request?,
            };
            let Some(request) = request else { return Ok(()) };
            let path = buffer.get(request.path.clone()).unwrap_or(b"/");
            self.note_arrival(index, endpoint, &request, path);
            let (status, delay) = self.treat(&setting, path);
            let asked = bytes_asked(path);
            buffer.advance(request.body.end);
            if let Fate::Lost = work(&mut stream, &mut setting, delay).await {
                if request.post && request.number.is_some() {
                    bump(&endpoint.posts_lost);
                }
                return Ok(());
            }
            if status >= 400 && request.number.is_some() {
                bump(&endpoint.errors);
            }
            let last = !request.keep_alive || refuses(&setting.borrow());
            self.compose(&mut answer, endpoint, status, (last, asked));
            stream.write_all(answer.as_bytes()).await?;
            write_filler(&mut stream, asked.unwrap_or(0)).await?;
            if last {
                return stream.shutdown().await;
            }
        }
    }

    fn note_arrival(&self, index: usize, endpoint: &Endpoint, request: &wire::Request, path: &[u8]) {
        let Some(number) = request.number else { return };
        if let Some(counter) = endpoint.by_path.get(path_index(path)) {
            bump(counter);
        }
        if request.post {
            bump(&endpoint.posts);
            let mut ledger = self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.note(number, u16::try_from(index).unwrap_or(u16::MAX));
        }
    }

    /// Status of the answer, and how long the work takes.
    fn treat(&self, setting: &watch::Receiver<Setting>, path: &[u8]) -> (u16, Duration) {
        let mut rng = self.rng.borrow_mut();
        let setting = setting.borrow();
        let treatment = setting.fault.treat(path, setting.since.elapsed(), &mut *rng);
        (
            treatment.status,
            self.service_time.draw(&mut *rng).mul_f64(treatment.factor),
        )
    }

    /// The answer; only its head, where a body of its own size was asked for.
    fn compose(
        &self,
        answer: &mut String,
        endpoint: &Endpoint,
        status: u16,
        (last, asked): (bool, Option<usize>),
    ) {
        use std::fmt::Write;
        answer.clear();
        let reason = if status < 400 { "OK" } else { "Failed" };
        let connection = if last { "connection: close\r\n" } else { "" };
        let (bytes, body) = asked.map_or((self.body.len(), self.body.as_str()), |bytes| (bytes, ""));
        // Writing to a string cannot fail.
        let _ = write!(
            answer,
            "HTTP/1.1 {status} {reason}\r\nx-endpoint: {}\r\ncontent-length: {bytes}\r\n{connection}\r\n{body}",
            endpoint.name,
        );
    }
}

/// The size of the body that a path asks for with its query.
fn bytes_asked(path: &[u8]) -> Option<usize> {
    let (_, bytes) = std::str::from_utf8(path).ok()?.split_once("?bytes=")?;
    Some(bytes.parse::<usize>().ok()?.min(BODY_BYTES_ASKED_MAX))
}

async fn write_filler(stream: &mut TcpStream, bytes: usize) -> io::Result<()> {
    let mut missing = bytes;
    while let Some(piece) = FILLER
        .get(..missing.min(FILLER.len()))
        .filter(|piece| !piece.is_empty())
    {
        stream.write_all(piece).await?;
        missing -= piece.len();
    }
    Ok(())
}

fn refuses(setting: &Setting) -> bool {
    matches!(setting.fault, Fault::Refuse { .. })
}

fn hangs(setting: &Setting) -> bool {
    setting.fault == Fault::Hang
}

fn cuts(setting: &Setting) -> bool {
    setting.fault == Fault::Refuse { cut: true }
}

/// Spends the service time, unless the fault has other plans with requests that are under way.
async fn work(stream: &mut TcpStream, setting: &mut watch::Receiver<Setting>, delay: Duration) -> Fate {
    if let Some(delay) = delay.checked_sub(TIMER_LATE).filter(|delay| !delay.is_zero()) {
        tokio::select! {
            biased;
            _ = setting.wait_for(cuts) => return Fate::Lost,
            () = tokio::time::sleep(delay) => {}
        }
    }
    if !hangs(&setting.borrow()) {
        return Fate::Answer;
    }
    let mut ignored = [0; 256];
    loop {
        tokio::select! {
            _ = setting.wait_for(|setting| !hangs(setting)) => return Fate::Lost,
            read = stream.read(&mut ignored) => if !matches!(read, Ok(1..)) {
                return Fate::Lost;
            },
        }
    }
}

fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Opens a listener; call it within a runtime.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // The port must be free again at once after `refuse`, whatever lingers in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}
