//! The body of a message on its way: which of the bytes that come belong to it, and how much it may have.

use super::chunked::Chunked;
use super::{Framing, Refusal};

/// A body, as far as it has been seen.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    kind: Kind,
    /// Bytes of data that it may still have.
    room: u64,
    /// Bytes of data that have been seen.
    seen: u64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// So many bytes are still to come.
    Length(u64),
    Chunked(Chunked),
}

impl Body {
    /// A body of which nothing has been seen. A length that is known was held against `limit` with the head.
    pub fn new(framing: Framing, limit: Option<u64>) -> Self {
        let kind = match framing {
            Framing::None => Kind::Length(0),
            Framing::Length(length) => Kind::Length(length),
            Framing::Chunked => Kind::Chunked(Chunked::new()),
        };
        Self {
            kind,
            room: limit.unwrap_or(u64::MAX),
            seen: 0,
        }
    }

    /// Whether all of it has been seen.
    #[inline]
    pub fn is_done(&self) -> bool {
        match &self.kind {
            Kind::Length(left) => *left == 0,
            Kind::Chunked(chunked) => chunked.is_done(),
        }
    }

    /// How many bytes are still to come; `None` where only the bytes themselves will tell.
    #[inline]
    pub fn left(&self) -> Option<u64> {
        match &self.kind {
            Kind::Length(left) => Some(*left),
            Kind::Chunked(chunked) => chunked.is_done().then_some(0),
        }
    }

    /// How many bytes of data have been seen, without what frames them.
    #[inline]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// So many bytes have passed that nobody has read. They are not more than are [`left`](Self::left), which is known.
    pub(crate) fn pass(&mut self, bytes: u64) {
        let Kind::Length(left) = &mut self.kind else {
            return debug_assert!(false, "what a chunk is, only its bytes tell");
        };
        debug_assert!(bytes <= *left, "{bytes} of {left}");
        *left = left.saturating_sub(bytes);
        self.seen += bytes;
    }

    /// Takes from the front of `bytes` what belongs to this body, and says how many bytes that is. What is behind them
    /// belongs to the next message.
    ///
    /// # Errors
    /// What is wrong with the bytes. None of them must be passed on then.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        self.take_data(bytes, |_| {})
    }

    /// The same, and shows the data in the bytes, without what frames it.
    ///
    /// # Errors
    /// Those of [`Self::take`].
    pub fn take_data(&mut self, bytes: &[u8], mut show: impl FnMut(&[u8])) -> Result<usize, Refusal> {
        let seen = &mut self.seen;
        let mut data = |data: &[u8]| {
            *seen += data.len() as u64;
            show(data);
        };
        match &mut self.kind {
            Kind::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                data(bytes.get(..taken).unwrap_or_default());
                Ok(taken)
            }
            Kind::Chunked(chunked) => chunked.take(bytes, &mut self.room, data),
        }
    }
}
