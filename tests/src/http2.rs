//! An endpoint of HTTP/2 that does with each request what the test says, and a client that lets go of nothing by itself.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};

/// A request that has come to an endpoint.
#[derive(Debug)]
pub struct Came {
    /// Its head.
    pub head: http::request::Parts,
    /// Its body.
    pub body: RecvStream,
    /// Where it is answered.
    pub respond: SendResponse<Bytes>,
    /// On which of the connections it came, counted from 1.
    pub connection: usize,
}

/// An endpoint of HTTP/2 in the clear. Lives as long as its runtime.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Endpoint {
    /// Calls `serve` for each request, each in a task of its own.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start<F>(builder: Builder, serve: impl Fn(Came) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let endpoint = Self {
            address: listener.local_addr().expect("it has an address"),
            connections: Arc::default(),
            requests: Arc::default(),
        };
        let (serve, own) = (Arc::new(serve), endpoint.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (serve, own, builder) = (serve.clone(), own.clone(), builder.clone());
                let connection = own.connections.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::spawn(async move {
                    let Ok(mut accepting) = builder.handshake(tcp).await else {
                        return;
                    };
                    while let Some(Ok((request, respond))) = accepting.accept().await {
                        own.requests.fetch_add(1, Ordering::SeqCst);
                        let (head, body) = request.into_parts();
                        tokio::spawn(serve(Came {
                            head,
                            body,
                            respond,
                            connection,
                        }));
                    }
                });
            }
        });
        endpoint
    }

    /// Connections that it has accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Requests that have come.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Came {
    /// Answers with this head and all of the request's body, behind it these trailers.
    pub async fn echo(mut self, head: Response<()>, trailers: HeaderMap) {
        let Ok(mut sending) = self.respond.send_response(head, false) else {
            return;
        };
        while let Some(piece) = next(&mut self.body).await {
            let Ok(piece) = piece else { return };
            if !send(&mut sending, piece, false).await {
                return;
            }
        }
        // The client may have gone.
        let _ = sending.send_trailers(trailers);
    }

    /// Answers with this head and nothing else.
    pub fn answer(mut self, head: Response<()>) {
        // The client may have gone.
        let _ = self.respond.send_response(head, true);
    }

    /// Waits until the client takes it back, and says why.
    pub async fn taken_back(mut self) -> Option<Reason> {
        poll_fn(|cx| self.respond.poll_reset(cx)).await.ok()
    }
}

/// The next piece of a body; room for another one is granted at once.
pub async fn next(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let piece = body.data().await?;
    if let Ok(piece) = &piece {
        // Fails only where the stream is gone.
        let _ = body.flow_control().release_capacity(piece.len());
    }
    Some(piece)
}

/// Sends a piece as the other side takes it. False where it takes no more.
pub async fn send(sending: &mut SendStream<Bytes>, mut piece: Bytes, end: bool) -> bool {
    while !piece.is_empty() {
        sending.reserve_capacity(piece.len());
        let Some(Ok(room)) = poll_fn(|cx| sending.poll_capacity(cx)).await else {
            return false;
        };
        let now = piece.split_to(room.min(piece.len()));
        if sending.send_data(now, end && piece.is_empty()).is_err() {
            return false;
        }
    }
    true
}

/// A client's connection, driven in the background.
#[derive(Clone, Debug)]
pub struct Client(SendRequest<Bytes>);

impl Client {
    /// Connects in the clear.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn connect(to: SocketAddr) -> Self {
        Self::connect_with(to, &h2::client::Builder::new()).await
    }

    /// The same, with windows of the test's own.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn connect_with(to: SocketAddr, builder: &h2::client::Builder) -> Self {
        let tcp = TcpStream::connect(to).await.expect("somebody listens");
        tcp.set_nodelay(true).expect("an option can be set");
        let (send, connection) = builder.handshake(tcp).await.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        Self(send)
    }

    /// Begins a request.
    ///
    /// # Panics
    /// When the connection is over.
    pub async fn begin(&self, request: Request<()>, end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let mut send = self.0.clone().ready().await.expect("the connection lives");
        send.send_request(request, end).expect("the request is sound")
    }

    /// Sends a request and its body, and reads the whole answer.
    ///
    /// # Errors
    /// What broke the stream.
    ///
    /// # Panics
    /// When the connection is over.
    pub async fn ask(&self, request: Request<()>, body: &[u8]) -> Result<Answer, h2::Error> {
        let (answer, mut sending) = self.begin(request, body.is_empty()).await;
        let body = Bytes::copy_from_slice(body);
        let sent = tokio::spawn(async move { send(&mut sending, body, true).await });
        let answer = read(answer).await;
        sent.abort();
        answer
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Its head.
    pub head: http::response::Parts,
    /// Its body.
    pub body: Vec<u8>,
    /// What stood behind it.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// How a call ended, wherever that stands.
    pub fn grpc_status(&self) -> Option<&str> {
        let trailers = self.trailers.as_ref().unwrap_or(&self.head.headers);
        trailers.get("grpc-status")?.to_str().ok()
    }
}

/// Reads an answer to its end.
///
/// # Errors
/// What broke the stream.
pub async fn read(answer: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = answer.await?.into_parts();
    let mut all = Vec::new();
    while let Some(piece) = next(&mut body).await {
        all.extend_from_slice(&piece?);
    }
    let trailers = poll_fn(|cx| body.poll_trailers(cx)).await?;
    Ok(Answer {
        head,
        body: all,
        trailers,
    })
}

/// Waits until `done` holds, without end: whoever asks bounds it.
pub async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
