//! HTTP/2: lines share connections, and each line is one stream at a time.
//!
//! A connection is opened by the first line that needs it, and by that one alone: the others wait for it. When it fails or
//! the server says goodbye, it is forgotten and the next request opens another, while streams that the server still
//! answers end as they may. Who finds, before he has sent anything, that the server has said goodbye asks on the next
//! connection, as every client does (RFC 9113, section 6.8); what has been sent is never repeated.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use tokio::sync::Mutex;

use crate::load::line::{Desk, Ended, no_connection};
use crate::load::mix::Draw;
use crate::load::record::Outcome;

/// Bytes that a server may send on one stream, and on all of a connection, before it is told that they were read: more
/// than any loopback holds, so that windows are no part of what is measured.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;

/// Largest frame that is taken.
const FRAME_BYTES_MAX: u32 = 64 * 1024;

type Sender = SendRequest<Bytes>;

/// A place for one connection. Locked while it is opened.
type Place = Rc<Connection>;

#[derive(Default)]
pub(crate) struct Connection {
    sender: RefCell<Option<Sender>>,
    opening: Mutex<()>,
    /// Told apart by number: a late failure of the last one must not close its successor.
    generation: std::cell::Cell<u64>,
}

/// The places of a load's connections.
pub(crate) struct Shared(Vec<Place>);

impl Shared {
    pub(crate) fn new(connections: usize) -> Self {
        Self((0..connections.max(1)).map(|_| Rc::default()).collect())
    }

    /// The connection that the line of this number uses: lines take them in turn.
    pub(crate) fn place(&self, line: usize) -> Place {
        self.0.get(line % self.0.len()).cloned().unwrap_or_default()
    }
}

impl Connection {
    fn open(&self) -> Option<(Sender, u64)> {
        let sender = self.sender.borrow().clone()?;
        Some((sender, self.generation.get()))
    }

    fn forget(&self, generation: u64) {
        if self.generation.get() == generation {
            *self.sender.borrow_mut() = None;
        }
    }
}

/// One line.
pub(crate) struct Http2 {
    place: Place,
}

impl Http2 {
    pub(crate) fn new(place: Place) -> Self {
        Self { place }
    }

    pub(crate) fn hang_up(&self) {
        *self.place.sender.borrow_mut() = None;
    }

    pub(crate) async fn exchange(&self, desk: &Desk, draw: Draw, number: u64) -> Ended {
        let (mut sender, mut generation) = match self.connection(desk).await {
            Ok(connection) => connection,
            Err(error) => return no_connection(&error).into(),
        };
        let said_goodbye = |error: h2::Error| error.is_go_away() && error.is_remote();
        if sender.clone().ready().await.is_err_and(said_goodbye) {
            self.place.forget(generation);
            (sender, generation) = match self.connection(desk).await {
                Ok(connection) => connection,
                Err(error) => return no_connection(&error).into(),
            };
        }
        match stream(sender, desk, draw, number).await {
            Ok(ended) => ended,
            Err(error) => {
                let of_this_stream = error.is_reset() && error.is_remote();
                if !of_this_stream {
                    self.place.forget(generation);
                }
                if error.is_library() {
                    Outcome::GARBLED.into()
                } else {
                    Outcome::CUT.into()
                }
            }
        }
    }

    async fn connection(&self, desk: &Desk) -> io::Result<(Sender, u64)> {
        if let Some(open) = self.place.open() {
            return Ok(open);
        }
        let _opening = self.place.opening.lock().await;
        if let Some(open) = self.place.open() {
            return Ok(open);
        }
        let stream = desk.dialler.dial().await?;
        let (sender, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .handshake::<_, Bytes>(stream)
            .await
            .map_err(io::Error::other)?;
        let generation = self.place.generation.get() + 1;
        self.place.generation.set(generation);
        *self.place.sender.borrow_mut() = Some(sender.clone());
        let place = Rc::clone(&self.place);
        tokio::task::spawn_local(async move {
            // How it ended is seen by the streams that were on it.
            let _ = connection.await;
            place.forget(generation);
        });
        Ok((sender, generation))
    }
}

async fn stream(sender: Sender, desk: &Desk, draw: Draw, number: u64) -> Result<Ended, h2::Error> {
    let mut sender = sender.ready().await?;
    let body = desk.requests.body(draw);
    let request = desk.requests.parts(draw, number);
    let (answer, sending) = sender.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        send_body(sending, body).await?;
    }
    let answer = answer.await?;
    let status = answer.status().as_u16();
    Ok(Ended {
        body_bytes: read_body(answer.into_body()).await?,
        outcome: Outcome::status(status),
    })
}

async fn send_body(mut sending: SendStream<Bytes>, mut body: Bytes) -> Result<(), h2::Error> {
    while !body.is_empty() {
        sending.reserve_capacity(body.len());
        let granted = std::future::poll_fn(|cx| sending.poll_capacity(cx)).await;
        // Nothing is granted any more once the server has answered without reading on: the answer says why.
        let Some(granted) = granted.transpose()? else {
            return Ok(());
        };
        let piece = body.split_to(granted.min(body.len()));
        sending.send_data(piece, body.is_empty())?;
    }
    Ok(())
}

async fn read_body(mut body: RecvStream) -> Result<u64, h2::Error> {
    let mut bytes = 0;
    while let Some(piece) = body.data().await {
        let piece = piece?;
        bytes += piece.len() as u64;
        body.flow_control().release_capacity(piece.len())?;
    }
    Ok(bytes)
}
