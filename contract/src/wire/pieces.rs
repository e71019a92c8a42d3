//! Long plans in pieces: so that neither side of a link keeps a buffer that is as long as the longest plan.
//!
//! A transport keeps, for as long as a connection lasts, a buffer of the length of its longest message. A thousand links
//! that had a plan of a megabyte each would keep a gigabyte. The pieces are parts of the bytes that were encoded once for
//! all proxies; nothing is copied to make them.

use bytes::{Bytes, BytesMut};

use super::{MESSAGE_BYTES_MAX, PIECE_BYTES, WireError, at_most, proto};

/// What is left to be sent of a message.
#[derive(Clone, Debug)]
pub struct Pieces {
    whole: Bytes,
    delta: bool,
    sent: usize,
}

impl Pieces {
    /// Of a plan, or of a difference.
    fn new(whole: Bytes, delta: bool) -> Self {
        Self {
            whole,
            delta,
            sent: 0,
        }
    }

    /// The pieces of a message that is longer than one piece; else the message as it was.
    ///
    /// # Errors
    /// The message, where it is not to be cut.
    pub fn of(message: proto::Down) -> Result<Self, proto::Down> {
        match message.body {
            Some(proto::down::Body::Plan(bytes)) if bytes.len() > PIECE_BYTES => Ok(Self::new(bytes, false)),
            Some(proto::down::Body::Delta(bytes)) if bytes.len() > PIECE_BYTES => Ok(Self::new(bytes, true)),
            body => Err(proto::Down { body }),
        }
    }
}

impl Iterator for Pieces {
    type Item = proto::Down;

    #[expect(clippy::cast_possible_truncation, reason = "a message has at most 16 MiB")]
    fn next(&mut self) -> Option<proto::Down> {
        let rest = self.whole.len() - self.sent;
        if rest == 0 {
            return None;
        }
        let at = self.sent;
        self.sent += rest.min(PIECE_BYTES);
        let piece = proto::Piece {
            part: self.whole.slice(at..self.sent),
            at: at as u32,
            length: self.whole.len() as u32,
            delta: self.delta,
        };
        Some(proto::Down {
            body: Some(proto::down::Body::Piece(piece)),
        })
    }
}

/// What has come of a message that comes in pieces.
#[derive(Debug, Default)]
pub struct Gathering {
    parts: BytesMut,
}

impl Gathering {
    /// Takes a message: gives it back if it is whole, and else the one that it completes, once it does.
    ///
    /// # Errors
    /// When a piece does not follow the one before, or the whole would break the limit. What had come is dropped.
    pub fn take(&mut self, message: proto::Down) -> Result<Option<proto::Down>, WireError> {
        let Some(proto::down::Body::Piece(piece)) = message.body else {
            self.parts = BytesMut::new();
            return Ok(Some(message));
        };
        let complete = self.add(&piece).inspect_err(|_| self.parts = BytesMut::new())?;
        if !complete {
            return Ok(None);
        }
        let whole = std::mem::take(&mut self.parts).freeze();
        let body = if piece.delta {
            proto::down::Body::Delta(whole)
        } else {
            proto::down::Body::Plan(whole)
        };
        Ok(Some(proto::Down { body: Some(body) }))
    }

    fn add(&mut self, piece: &proto::Piece) -> Result<bool, WireError> {
        let [at, length] =
            [piece.at, piece.length].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        at_most("piece.length", MESSAGE_BYTES_MAX, length)?;
        if at == 0 {
            // Whoever begins anew has given up what went before.
            self.parts.clear();
        }
        if at != self.parts.len() || piece.part.is_empty() {
            return Err(WireError::Range("piece.at"));
        }
        if piece.part.len() > length - at.min(length) {
            return Err(WireError::Range("piece.part"));
        }
        self.parts.extend_from_slice(&piece.part);
        Ok(self.parts.len() == length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(length: usize) -> proto::Down {
        let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
        proto::Down {
            body: Some(proto::down::Body::Plan(bytes.into())),
        }
    }

    fn piece(at: u32, length: u32, part: &'static [u8]) -> proto::Down {
        let piece = proto::Piece {
            part: part.into(),
            at,
            length,
            delta: true,
        };
        proto::Down {
            body: Some(proto::down::Body::Piece(piece)),
        }
    }

    #[test]
    fn what_was_cut_comes_together_again() {
        for length in [PIECE_BYTES + 1, 2 * PIECE_BYTES, 5 * PIECE_BYTES + 7] {
            let whole = plan(length);
            let pieces: Vec<_> = Pieces::of(whole.clone()).expect("it is long").collect();
            assert_eq!(pieces.len(), length.div_ceil(PIECE_BYTES));
            let mut gathering = Gathering::default();
            let mut came: Vec<_> = pieces.into_iter().map(|one| gathering.take(one)).collect();
            assert_eq!(came.pop(), Some(Ok(Some(whole))));
            assert!(came.iter().all(|before| *before == Ok(None)));
        }
    }

    #[test]
    fn a_message_of_one_piece_goes_as_it_is() {
        let whole = plan(PIECE_BYTES);
        assert_eq!(Pieces::of(whole.clone()).expect_err("it is short"), whole);
        assert_eq!(Gathering::default().take(whole.clone()), Ok(Some(whole)));
    }

    #[test]
    fn pieces_that_do_not_fit_are_refused_and_the_next_message_is_read() {
        let wrong = [
            vec![piece(1, 4, b"a")],
            vec![piece(0, 4, b"ab"), piece(1, 4, b"bc")],
            vec![piece(0, 4, b"ab"), piece(2, 3, b"cd")],
            vec![piece(0, 4, b"ab"), piece(2, 4, b"")],
            vec![piece(0, 4, b"abcde")],
            vec![piece(0, 0, b"")],
            vec![piece(0, 17 << 20, b"a")],
        ];
        for mut pieces in wrong {
            let mut gathering = Gathering::default();
            let last = pieces.pop().expect("one");
            for before in pieces {
                assert_eq!(gathering.take(before), Ok(None));
            }
            assert!(gathering.take(last.clone()).is_err(), "{last:?}");
            assert_eq!(gathering.take(piece(0, 4, b"ab")), Ok(None));
            assert!(matches!(gathering.take(piece(2, 4, b"cd")), Ok(Some(_))));
        }
    }

    #[test]
    fn a_message_that_begins_anew_replaces_what_had_come() {
        let mut gathering = Gathering::default();
        assert_eq!(gathering.take(piece(0, 4, b"ab")), Ok(None));
        assert_eq!(gathering.take(piece(0, 2, b"c")), Ok(None));
        let whole = gathering
            .take(piece(1, 2, b"d"))
            .expect("they fit")
            .expect("it is complete");
        assert_eq!(
            whole.body,
            Some(proto::down::Body::Delta(Bytes::from_static(b"cd")))
        );
    }
}
