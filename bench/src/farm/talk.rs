//! One connection of an endpoint: how a request is heard, and how its answer is said in each [`Manner`].
//!
//! Three languages. HTTP/1.1, as [`wire`] knows it. And two over plain TCP, so that proxies of bytes can be measured
//! with the same farm and the same faults: *echo* gives back what it reads, piece by piece; *send* reads a line with
//! a number and sends so many bytes. On plain TCP there is no status, so an error is the end of the connection.

use std::io::{self, IoSlice, Write};
use std::str::FromStr;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::farm::alarm::Alarm;
use crate::farm::fault::Manner;
use crate::farm::site::Site;
use crate::wire;

/// Largest body of an answer: with `?bytes=N`, by option, or by a line of *send*.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Bodies up to here are copied behind their head; above, two pieces in one call cost less than the copy.
const COPIED_MAX: usize = 4 * 1024;

/// Most bytes of one piece of *echo*.
const ECHO_BYTES_MAX: usize = 64 * 1024;

/// Longest line of *send*: a number up to [`BODY_BYTES_MAX`], and its end.
const LINE_BYTES_MAX: usize = 16;

/// Pieces per second in which a body drips.
const DRIPS_PER_S: u64 = 20;

/// What is said in place of an answer: no start of any HTTP version, of TLS, or of text.
const GARBAGE: &[u8] = b"\x00\xfe\x07garbage\x1b\xff\r\n\r\n";

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// HTTP/1.1.
    #[default]
    Http,
    /// Plain TCP: what is read is written back.
    Echo,
    /// Plain TCP: a line with a number is answered with so many bytes.
    Send,
}

impl FromStr for Language {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "http" => Ok(Self::Http),
            "echo" => Ok(Self::Echo),
            "send" => Ok(Self::Send),
            _ => Err("expected http, echo or send".to_owned()),
        }
    }
}

/// A connection, and what was heard last.
pub(crate) struct Talk {
    stream: TcpStream,
    /// What was read and not used yet. In *echo*, what is to be given back.
    buffer: BytesMut,
    /// Of the last request.
    path: Vec<u8>,
    /// What is written next.
    out: Vec<u8>,
}

/// A request that has arrived completely.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) post: bool,
    pub(crate) number: Option<u64>,
    /// Bytes of its own body.
    pub(crate) body_bytes: usize,
    /// Bytes that the answer's body should have, if it says so.
    pub(crate) asked_bytes: Option<usize>,
    head_only: bool,
    keep_alive: bool,
}

/// What is to be said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) manner: Manner,
    /// The body in *http* and *send*.
    pub(crate) body: &'a [u8],
    /// A whole answer of status 200 with that body that leaves the connection open, where one is kept ready.
    pub(crate) ready: Option<&'a [u8]>,
    /// The connection ends with it in any case.
    pub(crate) last: bool,
    /// What the endpoint says of its load.
    pub(crate) utilisation: Option<f64>,
}

impl Talk {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: BytesMut::new(),
            path: Vec::new(),
            out: Vec::new(),
        })
    }

    /// Path and query of the request that was heard last.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The next request; `None` where there is none. Its body is gone, but for *echo*.
    pub(crate) async fn hear(&mut self, language: Language) -> io::Result<Option<Heard>> {
        match language {
            Language::Http => self.hear_http().await,
            Language::Echo => self.hear_piece().await,
            Language::Send => self.hear_line().await,
        }
    }

    async fn hear_http(&mut self) -> io::Result<Option<Heard>> {
        let Some(head) = wire::read_head(&mut self.stream, &mut self.buffer).await? else {
            return Ok(None);
        };
        self.path.clear();
        self.path.extend_from_slice(&self.buffer[head.path]);
        self.buffer.advance(head.head_bytes);
        if head.body_bytes > 0 {
            wire::skip_body(&mut self.stream, &mut self.buffer, head.body_bytes as u64).await?;
        }
        Ok(Some(Heard {
            post: head.post,
            number: head.number,
            body_bytes: head.body_bytes,
            asked_bytes: bytes_asked(&self.path),
            head_only: head.head_only,
            keep_alive: head.keep_alive,
        }))
    }

    async fn hear_piece(&mut self) -> io::Result<Option<Heard>> {
        self.buffer.clear();
        self.buffer.reserve(ECHO_BYTES_MAX);
        let bytes = self.stream.read_buf(&mut self.buffer).await?;
        Ok((bytes > 0).then(|| plain(bytes, bytes)))
    }

    async fn hear_line(&mut self) -> io::Result<Option<Heard>> {
        let broken = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let number = std::str::from_utf8(&self.buffer[..end]).ok();
                let number = number.and_then(|line| line.trim_end().parse().ok());
                let number = number.ok_or_else(|| broken("not a number of bytes"))?;
                self.buffer.advance(end + 1);
                return Ok(Some(plain(end + 1, BODY_BYTES_MAX.min(number))));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(broken("the line is too long"));
            }
            self.buffer.reserve(LINE_BYTES_MAX);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Says the answer to what was heard. Returns whether the connection stays open; where it does not, it has been
    /// closed as the manner wants.
    pub(crate) async fn say(
        &mut self,
        (language, heard): (Language, Heard),
        answer: Answer<'_>,
        (site, alarm): (&Site, &Alarm),
    ) -> io::Result<bool> {
        let closes = answer.last || !heard.keep_alive;
        if let Some(ready) = answer.ready.filter(|_| !closes && !heard.head_only) {
            return self.stream.write_all(ready).await.map(|()| true);
        }
        let failed = language != Language::Http && answer.status >= 400;
        let body = match language {
            _ if failed || heard.head_only => &[],
            Language::Echo => &self.buffer[..],
            Language::Http | Language::Send => answer.body,
        };
        self.out.clear();
        if language == Language::Http {
            compose(&mut self.out, site.endpoint().name(), &answer, closes);
        }
        match answer.manner {
            Manner::Whole => write_both(&mut self.stream, &mut self.out, body).await?,
            Manner::Drip(bytes_per_s) => {
                self.stream.write_all(&self.out).await?;
                drip(&mut self.stream, body, bytes_per_s, (site, alarm)).await?;
            }
            Manner::Early(part) => {
                let sent = early(body.len(), part);
                write_both(&mut self.stream, &mut self.out, &body[..sent]).await?;
                return self.close().await;
            }
            Manner::Garbage => {
                self.stream.write_all(GARBAGE).await?;
                return self.close().await;
            }
            Manner::Reset => {
                // Dropped by the caller, with what the kernel then does in place of an orderly end.
                return self.stream.set_zero_linger().map(|()| false);
            }
            Manner::Never => {
                self.hang(site).await;
                return Ok(false);
            }
        }
        if closes || failed {
            return self.close().await;
        }
        Ok(true)
    }

    async fn close(&mut self) -> io::Result<bool> {
        self.stream.shutdown().await.map(|()| false)
    }

    /// Reads and says nothing until the endpoint hangs no more or the peer has left.
    async fn hang(&mut self, site: &Site) {
        let mut ignored = [0; 256];
        let left = async { while let Ok(1..) = self.stream.read(&mut ignored).await {} };
        tokio::select! {
            () = site.wait_until(|condition| !condition.hangs) => {}
            () = left => {}
        }
    }
}

/// A request over plain TCP.
fn plain(body_bytes: usize, asked_bytes: usize) -> Heard {
    Heard {
        post: false,
        number: None,
        body_bytes,
        asked_bytes: Some(asked_bytes),
        head_only: false,
        keep_alive: true,
    }
}

/// The size of the body that a path asks for with its query.
fn bytes_asked(path: &[u8]) -> Option<usize> {
    let query = path.iter().position(|byte| *byte == b'?')?;
    let bytes = path.get(query + 1..)?.strip_prefix(b"bytes=")?;
    let bytes: usize = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    Some(bytes.min(BODY_BYTES_MAX))
}

/// Appends the head of an answer.
pub(super) fn compose(out: &mut Vec<u8>, endpoint: &str, answer: &Answer<'_>, closes: bool) {
    let reason = if answer.status < 400 { "OK" } else { "Failed" };
    let bytes = match answer.manner {
        // An empty body cannot end early, so it is announced as one byte.
        Manner::Early(_) => answer.body.len().max(1),
        _ => answer.body.len(),
    };
    // Writing to a vector cannot fail.
    let _ = write!(
        out,
        "HTTP/1.1 {} {reason}\r\nx-endpoint: {endpoint}\r\ncontent-length: {bytes}\r\n",
        answer.status
    );
    if let Some(utilisation) = answer.utilisation {
        let _ = write!(
            out,
            "endpoint-load-metrics: TEXT cpu_utilization={utilisation:.4}\r\n"
        );
    }
    if closes {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Bytes of a body of `bytes` that are sent where this part of it is.
fn early(bytes: usize, part: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a number of bytes is a number of bytes"
    )]
    let sent = (bytes as f64 * part) as usize;
    // Rounding must not make it whole.
    sent.min(bytes.saturating_sub(1))
}

async fn write_both(stream: &mut TcpStream, out: &mut Vec<u8>, body: &[u8]) -> io::Result<()> {
    if body.len() <= COPIED_MAX {
        out.extend_from_slice(body);
        return stream.write_all(out).await;
    }
    let written = stream
        .write_vectored(&[IoSlice::new(out), IoSlice::new(body)])
        .await?;
    stream.write_all(out.get(written..).unwrap_or_default()).await?;
    stream.write_all(&body[written.saturating_sub(out.len())..]).await
}

async fn drip(
    stream: &mut TcpStream,
    body: &[u8],
    bytes_per_s: u64,
    (site, alarm): (&Site, &Alarm),
) -> io::Result<()> {
    let start = Instant::now();
    let piece = usize::try_from((bytes_per_s / DRIPS_PER_S).max(1)).unwrap_or(usize::MAX);
    let mut sent_bytes = 0;
    for piece in body.chunks(piece) {
        site.wait_until(|condition| !condition.paused).await;
        stream.write_all(piece).await?;
        sent_bytes += piece.len();
        let due = Duration::from_secs_f64(sent_bytes as f64 / bytes_per_s as f64);
        alarm.sleep_until(start + due).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Heard {
        pub(crate) fn numbered(number: u64) -> Self {
            Self {
                number: Some(number),
                ..plain(0, 0)
            }
        }
    }

    #[test]
    fn a_path_asks_for_bytes_and_gets_no_more_than_there_are() {
        let asked = [
            "/a",
            "/a?bytes=0",
            "/a?bytes=300000",
            "/a?bytes=99999999",
            "/a?bytes=x",
            "/?x=1",
        ]
        .map(|path| bytes_asked(path.as_bytes()));
        assert_eq!(
            asked,
            [None, Some(0), Some(300_000), Some(BODY_BYTES_MAX), None, None]
        );
    }

    #[test]
    fn a_body_that_ends_early_is_never_whole() {
        for (bytes, part, sent) in [
            (0, 0.5, 0),
            (1, 0.99, 0),
            (100, 0.5, 50),
            (100, 0.0, 0),
            (3, 0.999_999, 2),
        ] {
            assert_eq!(early(bytes, part), sent, "{part} of {bytes}");
        }
    }
}
