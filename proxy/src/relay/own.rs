//! Answers that no endpoint has given: what a route answers by itself, and why there is no other answer.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, DATE, HeaderValue};
use http::{HeaderMap, HeaderName, StatusCode};

use super::answer::option;
use crate::fields::write_line;
use crate::policy::pages::Shown;
use crate::route::answer::Answer;
use crate::trace::REQUEST_ID;

/// An answer of our own.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) status: u16,
    /// Its headers, without those that frame it.
    headers: HeaderMap,
    body: Bytes,
}

/// How it is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    pub(super) date: &'a HeaderValue,
    /// The client's connection ends with it.
    pub(super) close: bool,
    /// Nobody wants its body.
    pub(super) head_only: bool,
    /// The request's name, where the client is to know it.
    pub(super) request_id: Option<&'a [u8]>,
}

impl Own {
    /// A failure, told in one line, or by a page.
    pub(super) fn failure(status: u16, sentence: &str, page: Option<Shown>) -> Self {
        let uncached = HeaderValue::from_static("private, no-store");
        let mut headers = HeaderMap::from_iter([(CACHE_CONTROL, uncached)]);
        let body = match page {
            Some(page) => {
                headers.insert(CONTENT_TYPE, page.content_type);
                page.body
            }
            None => format!("foreshade: {sentence}\n").into(),
        };
        Self {
            status,
            headers,
            body,
        }
    }

    /// What a route answers.
    pub(super) fn of_a_route(answer: Answer) -> Self {
        let answer = answer.shown();
        Self {
            status: answer.status,
            headers: answer.headers,
            body: answer.body,
        }
    }

    /// Writes it, and says how many bytes of it are its body.
    pub(super) fn write(&self, told: &Told<'_>, out: &mut Vec<u8>) -> usize {
        let words = StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason());
        let mut digits = itoa::Buffer::new();
        for part in [
            "HTTP/1.1 ",
            digits.format(self.status),
            " ",
            words.unwrap_or_default(),
            "\r\n",
        ] {
            out.extend_from_slice(part.as_bytes());
        }
        write_line(b"Date", told.date.as_bytes(), out);
        // RFC 9110 section 8.6: neither has a length.
        let bare = matches!(self.status, 204 | 304);
        if !bare {
            let length = digits.format(self.body.len());
            write_line(b"Content-Length", length.as_bytes(), out);
        }
        // Neither is a route's to tell.
        let is_told = |name: &HeaderName| *name != DATE && (told.request_id.is_none() || *name != REQUEST_ID);
        for (name, value) in self.headers.iter().filter(|(name, _)| is_told(name)) {
            write_line(name.as_str().as_bytes(), value.as_bytes(), out);
        }
        if let Some(id) = told.request_id {
            write_line(REQUEST_ID.as_str().as_bytes(), id, out);
        }
        write_line(b"Connection", option(told.close), out);
        out.extend_from_slice(b"\r\n");
        if bare || told.head_only {
            return 0;
        }
        out.extend_from_slice(&self.body);
        self.body.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: HeaderValue = HeaderValue::from_static("now");

    fn written(own: &Own, head_only: bool, request_id: Option<&[u8]>) -> (String, usize) {
        let told = Told {
            date: &NOW,
            close: false,
            head_only,
            request_id,
        };
        let mut out = Vec::new();
        let body = own.write(&told, &mut out);
        (String::from_utf8(out).unwrap(), body)
    }

    #[test]
    fn a_failure_is_told_in_one_line_and_kept_by_no_cache() {
        let own = Own::failure(502, "the endpoint did not answer", None);
        let head = "HTTP/1.1 502 Bad Gateway\r\nDate: now\r\nContent-Length: 39\r\n\
                    cache-control: private, no-store\r\nConnection: keep-alive\r\n\r\n";
        let body = "foreshade: the endpoint did not answer\n";
        assert_eq!(written(&own, false, None), (format!("{head}{body}"), 39));
        assert_eq!(written(&own, true, None), (head.to_owned(), 0));
    }

    #[test]
    fn the_name_of_a_request_and_the_date_stand_there_once() {
        let own = Own::of_a_route(Answer {
            status: 204,
            headers: HeaderMap::from_iter([
                (REQUEST_ID, HeaderValue::from_static("other")),
                (DATE, HeaderValue::from_static("yesterday")),
            ]),
            body: Bytes::from_static(b"ignored"),
            reason: "respond",
            refused: false,
            page: None,
        });
        let (text, body) = written(&own, false, Some(b"name"));
        assert_eq!(
            text,
            "HTTP/1.1 204 No Content\r\nDate: now\r\nx-request-id: name\r\nConnection: keep-alive\r\n\r\n"
        );
        assert_eq!(body, 0);
    }
}
