//! gRPC-Web: calls as pages can make them, which see neither the frames of HTTP/2 nor what stands behind a body.
//!
//! Messages are written as in gRPC. What stands behind them is one more message, marked as such, at the end of the body;
//! and all of it may be in Base64, in as many parts as there were writes, each with its own padding. Source: grpc/grpc
//! `doc/PROTOCOL-WEB.md`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

use super::CONTENT;
use crate::fields::Fields;
use crate::framing::Refusal;

/// Marks the message in which trailers stand.
const TRAILERS: u8 = 0x80;

/// How the bytes of a body are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are.
    Binary,
    /// In Base64.
    Text,
}

/// A call of gRPC-Web: how it is written, and how its answer is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    asked: Form,
    answered: Form,
}

impl Call {
    /// What a request with these headers is; `None` for one that is no call of gRPC-Web.
    pub(crate) fn of<'a>(headers: impl Into<Fields<'a>>) -> Option<Self> {
        let headers = headers.into();
        let (asked, _) = Form::of(headers.get(&CONTENT_TYPE)?)?;
        let wanted = headers.get(&ACCEPT).and_then(Form::of);
        Some(Self {
            asked,
            answered: wanted.map_or(asked, |(form, _)| form),
        })
    }

    /// The request becomes one of gRPC.
    pub(crate) fn ask(self, headers: &mut HeaderMap) {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let kind = match kind.and_then(Form::of) {
            Some((_, messages)) => written(CONTENT.as_bytes(), messages),
            None => CONTENT,
        };
        headers.insert(CONTENT_TYPE, kind);
        headers.remove(CONTENT_LENGTH);
    }

    /// The type of an answer of gRPC, as this client is told it.
    pub(crate) fn kind(self, native: Option<&HeaderValue>) -> HeaderValue {
        let messages = native.and_then(|kind| kind.as_bytes().get(CONTENT.len()..));
        written(self.answered.name(), messages.unwrap_or_default())
    }

    /// What reads the body of the request.
    pub(crate) fn reader(self) -> Reader {
        Reader {
            form: self.asked,
            rest: Vec::new(),
        }
    }

    /// A piece of the answer, as this client reads it.
    pub(crate) fn write(self, piece: Bytes) -> Bytes {
        match self.answered {
            Form::Binary => piece,
            Form::Text => STANDARD.encode(&piece).into(),
        }
    }

    /// What stands behind the messages, as the last of them.
    pub(crate) fn write_trailers(self, trailers: &HeaderMap) -> Bytes {
        let lines = trailers
            .iter()
            .map(|(name, value)| [name.as_str().as_bytes(), b":", value.as_bytes(), b"\r\n"].concat());
        let lines = lines.collect::<Vec<_>>().concat();
        // Trailers have a bound, of 64 KiB.
        let length = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        self.write([&[TRAILERS][..], &length.to_be_bytes(), &lines].concat().into())
    }
}

impl Form {
    /// What a type names, and how it says that messages are written: `+proto` or the like, or nothing.
    fn of(kind: &[u8]) -> Option<(Self, &[u8])> {
        [Self::Text, Self::Binary].into_iter().find_map(|form| {
            let (start, messages) = kind.split_at_checked(form.name().len())?;
            let is_named = start.eq_ignore_ascii_case(form.name());
            (is_named && matches!(messages.first(), None | Some(b'+' | b';' | b' ')))
                .then_some((form, messages))
        })
    }

    fn name(self) -> &'static [u8] {
        match self {
            Self::Binary => b"application/grpc-web",
            Self::Text => b"application/grpc-web-text",
        }
    }
}

fn written(name: &[u8], messages: &[u8]) -> HeaderValue {
    // Both are parts of values that have been checked.
    HeaderValue::from_bytes(&[name, messages].concat()).unwrap_or(CONTENT)
}

/// Reads the body of a request, piece by piece.
#[derive(Debug)]
pub(crate) struct Reader {
    form: Form,
    /// Digits of Base64 that do not make a byte yet: three at most.
    rest: Vec<u8>,
}

impl Reader {
    /// What a piece says.
    ///
    /// # Errors
    /// It is no Base64, and its type says that it is.
    pub(crate) fn read(&mut self, piece: Bytes) -> Result<Bytes, Refusal> {
        if self.form == Form::Binary {
            return Ok(piece);
        }
        let mut text = std::mem::take(&mut self.rest);
        text.extend_from_slice(&piece);
        self.rest = text.split_off(text.len() / 4 * 4);
        let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
        let mut left = &text[..];
        while !left.is_empty() {
            // A part ends with its padding.
            let padding = left.iter().position(|byte| *byte == b'=');
            let (part, after) = left.split_at(padding.map_or(left.len(), |at| (at / 4 + 1) * 4));
            let read = STANDARD.decode_vec(part, &mut bytes);
            read.map_err(|_| Refusal::Base64)?;
            left = after;
        }
        Ok(bytes.into())
    }

    /// The next piece is the first one again.
    pub(crate) fn begin_again(&mut self) {
        self.rest.clear();
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// It ends in the middle of a byte.
    pub(crate) fn end(&self) -> Result<(), Refusal> {
        match self.rest.is_empty() {
            true => Ok(()),
            false => Err(Refusal::Base64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(http::HeaderName, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().cloned();
        HeaderMap::from_iter(pairs.map(|(name, value)| (name, HeaderValue::from_static(value))))
    }

    fn call(kind: &'static str) -> Option<Call> {
        Call::of(&headers(&[(CONTENT_TYPE, kind)]))
    }

    #[test]
    fn a_type_says_what_a_call_is_and_becomes_that_of_grpc_and_back() {
        for (kind, form, native) in [
            ("application/grpc-web", Form::Binary, "application/grpc"),
            (
                "application/grpc-web+proto",
                Form::Binary,
                "application/grpc+proto",
            ),
            ("Application/gRPC-Web-Text", Form::Text, "application/grpc"),
            (
                "application/grpc-web-text+json",
                Form::Text,
                "application/grpc+json",
            ),
        ] {
            let mut headers = headers(&[(CONTENT_TYPE, kind), (CONTENT_LENGTH, "8")]);
            let call = Call::of(&headers).expect(kind);
            assert_eq!((call.asked, call.answered), (form, form), "{kind}");
            call.ask(&mut headers);
            assert_eq!(headers[CONTENT_TYPE], native);
            assert!(!headers.contains_key(CONTENT_LENGTH));
            let told = call.kind(headers.get(CONTENT_TYPE));
            assert_eq!(told.to_str().unwrap(), kind.to_ascii_lowercase());
        }
        for kind in [
            "application/grpc",
            "application/grpc-websocket",
            "application/json",
        ] {
            assert_eq!(call(kind), None, "{kind}");
        }
    }

    #[test]
    fn an_answer_is_written_as_its_client_accepts_it() {
        let both = [
            (CONTENT_TYPE, "application/grpc-web"),
            (ACCEPT, "application/grpc-web-text"),
        ];
        let call = Call::of(&headers(&both)).unwrap();
        assert_eq!((call.asked, call.answered), (Form::Binary, Form::Text));
        assert_eq!(call.write(Bytes::from_static(b"ab")), "YWI=");
    }

    #[test]
    fn what_stands_behind_messages_is_a_message() {
        let trailers = headers(&[
            (super::super::STATUS.clone(), "0"),
            ("x-tail".parse().unwrap(), "t"),
        ]);
        let message = call("application/grpc-web").unwrap().write_trailers(&trailers);
        assert_eq!(message, &b"\x80\0\0\0\x19grpc-status:0\r\nx-tail:t\r\n"[..]);
    }

    /// Whoever writes twice ends two parts, and pieces end anywhere.
    #[test]
    fn base64_is_read_in_parts_and_in_pieces() {
        let text = ["hello", "a", "", "world!"]
            .map(|part| STANDARD.encode(part))
            .concat();
        for length in 1..=text.len() {
            let mut reader = call("application/grpc-web-text").unwrap().reader();
            let pieces = text.as_bytes().chunks(length).map(Bytes::copy_from_slice);
            let read: Vec<_> = pieces.map(|piece| reader.read(piece).unwrap()).collect();
            assert_eq!(read.concat(), b"helloaworld!", "pieces of {length}");
            assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in ["????", "a=bc", "YQ==YQ=", "YWJjZ"] {
            let mut reader = call("application/grpc-web-text").unwrap().reader();
            let read = reader.read(Bytes::from_static(text.as_bytes()));
            assert_eq!(read.and_then(|_| reader.end()), Err(Refusal::Base64), "{text}");
        }
    }
}
