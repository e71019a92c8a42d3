//! An answer that becomes another one on its way: a page in place of an error, fewer bytes for who can read them, or a
//! call's in the form of gRPC-Web.
//!
//! Only where the answer passes piece by piece through our own hands, on the [short way](super::plain) and in the
//! [passage](super::passage): what goes pingora's way, because its request is large or unusual, is passed on as it is.

use std::io;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Method, Version};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use super::exchange::Exchange;
use crate::fields::Fields;
use crate::grpc;
use crate::policy::compress::{self, Change, Encoder};
use crate::policy::pages::Giver;
use crate::server::local;

impl Exchange {
    /// The head of the answer is what the user sees: makes of it that of what he gets. `end` is one without a body.
    ///
    /// # Errors
    /// The codec has no memory.
    pub(super) fn begin_encoding(
        &mut self,
        came: &RequestHeader,
        head: &mut ResponseHeader,
        end: bool,
    ) -> Result<()> {
        self.encoder = None;
        if self.replaced || self.begin_web(head)? {
            return Ok(());
        }
        let Some(compressing) = self.flow.as_ref().and_then(|flow| flow.compressing()) else {
            return Ok(());
        };
        let (status, is_head) = (head.status.as_u16(), came.method == Method::HEAD);
        let before = head.headers.clone();
        let fields = Fields::from(&before);
        let mut change = compressing.change(status, fields);
        if status == 304 && !compress::knows_encoded(Fields::from(&came.headers), fields) {
            // Of something that was never encoded, or not for this client.
            change = Change::Varies;
        }
        if let Change::Encoded(coding) = change {
            // Before 1.1 nobody could tell an end from a cut.
            let can_end = came.version != Version::HTTP_10;
            if status == 304 || (is_head && can_end) {
                // Told as it would be with a body.
            } else if end || !can_end {
                change = Change::Varies;
            } else {
                let begun = local::with(|l| l.worker.encoder(coding, compressing.by.effort));
                match begun.transpose().map_err(broken)?.flatten() {
                    Some(encoder) => self.encoder = Some(Box::new(encoder)),
                    None => change = Change::Varies,
                }
            }
        }
        change.make(status, fields, head);
        Ok(())
    }

    /// A call's answer becomes one that a page can read, where a page has made it; whether it does.
    fn begin_web(&mut self, head: &mut ResponseHeader) -> Result<bool> {
        let Some(stream) = self.stream.as_mut() else {
            return Ok(false);
        };
        // Whoever does not speak gRPC answers as HTTP does, which pages understand.
        let web = stream.call.and_then(grpc::Call::web);
        stream.web = web.filter(|_| grpc::is_call(&head.headers));
        if let Some(web) = stream.web {
            head.insert_header(CONTENT_TYPE, web.kind(head.headers.get(CONTENT_TYPE)))?;
            head.remove_header(&CONTENT_LENGTH);
        }
        Ok(stream.web.is_some())
    }

    /// Whether trailers stand behind the client's body as they stand behind the endpoint's, and not in it.
    pub(super) fn shows_trailers(&self) -> bool {
        self.web().is_none()
    }

    fn web(&self) -> Option<grpc::web::Call> {
        self.stream.as_ref()?.web
    }

    /// Replaces the answer by a page, where there is one for it: gives what the client gets instead of its body.
    pub(super) fn replace(&mut self, head: &mut ResponseHeader) -> Option<Bytes> {
        self.replaced = false;
        let flow = self.flow.as_ref().filter(|_| self.call().is_none())?;
        let page = flow.page(head.status.as_u16(), Giver::Endpoint)?;
        page.replace(head);
        let body = page.body.clone();
        self.replaced = true;
        Some(body)
    }

    /// What the client gets of a piece of the body.
    ///
    /// # Errors
    /// The codec is broken.
    pub(super) fn encoded(&mut self, piece: Bytes) -> Result<Bytes> {
        let web = self.web();
        match (&mut self.encoder, web) {
            (Some(encoder), _) => encoder.encode(&piece).map_err(broken),
            (None, Some(web)) => Ok(web.write(piece)),
            (None, None) => Ok(piece),
        }
    }

    /// Whether something is held back that the client could have.
    pub(super) fn holds_back(&self) -> bool {
        self.encoder.as_ref().is_some_and(|encoder| encoder.holds())
    }

    /// What is held back, because nothing more is at hand.
    ///
    /// # Errors
    /// The codec is broken.
    pub(super) fn flushed(&mut self) -> Result<Bytes> {
        let flushed = self.encoder.as_mut().map(|encoder| encoder.flush());
        flushed.unwrap_or_else(|| Ok(Bytes::new())).map_err(broken)
    }

    /// What is left, at the end of the body, before these trailers.
    ///
    /// # Errors
    /// The codec is broken.
    pub(super) fn encoded_end(&mut self, trailers: Option<&HeaderMap>) -> Result<Bytes> {
        if let Some(web) = self.web() {
            return Ok(trailers.map_or(Bytes::new(), |trailers| web.write_trailers(trailers)));
        }
        let Some(encoder) = self.encoder.take() else {
            return Ok(Bytes::new());
        };
        let (last, counts) = Encoder::finish(*encoder).map_err(broken)?;
        local::with(|l| l.worker.compressed(counts));
        Ok(last)
    }
}

/// Nobody outside has done anything wrong.
fn broken(error: io::Error) -> pingora_error::BError {
    Error::because(
        ErrorType::InternalError,
        "an answer could not be compressed",
        error,
    )
}
