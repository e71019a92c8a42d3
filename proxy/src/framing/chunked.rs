//! The chunked coding, followed byte by byte while it streams: sizes, extensions, ends, trailers. Data is shown.
//!
//! Whoever decodes by a reading of his own gets bytes that have passed here, so that the two readings would have to
//! differ on what is not in them: signs, spaces, prefixes, bare ends of lines, endless extensions. Source: RFC 9112
//! section 7.1.

use super::Refusal;
use super::bytes::{TOKEN, is};

/// Digits of a size: more would overflow, leading zeros included.
const DIGITS_MAX: u8 = 15;

/// Bytes of the extensions of one chunk. Nobody is known to use them but attackers.
const EXTENSION_MAX: u32 = 256;

/// Bytes of all extensions of a body. Without it a body of one-byte chunks would cost its reader hundreds of bytes for
/// each. Compare CVE-2023-39326.
const EXTENSIONS_MAX: u32 = 16 * 1024;

/// Bytes of the trailers of a body.
const TRAILERS_MAX: u32 = 8 * 1024;

/// A body in the chunked coding, as far as it has been seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunked {
    state: State,
    /// Of the chunk: its size while that is read, then what is still to come of it.
    left: u64,
    digits: u8,
    extension: u32,
    extensions: u32,
    trailers: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer, or of the empty line that ends the body.
    LineStart,
    Name,
    Value,
    ValueLf,
    LastLf,
    Done,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self {
            state: State::Size,
            left: 0,
            digits: 0,
            extension: 0,
            extensions: 0,
            trailers: 0,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes from `bytes` what belongs to this body, and says how much that is. `room` is how many bytes of data it may
    /// still have; `show` gets the data in the bytes.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        room: &mut u64,
        mut show: impl FnMut(&[u8]),
    ) -> Result<usize, Refusal> {
        let mut at = 0;
        while let (false, Some(byte)) = (self.is_done(), bytes.get(at)) {
            if self.state == State::Data {
                let here = (bytes.len() - at) as u64;
                let taken = here.min(self.left);
                self.left -= taken;
                // Fits: it is no more than `here`.
                let end = at + usize::try_from(taken).unwrap_or(0);
                show(bytes.get(at..end).unwrap_or_default());
                at = end;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            self.state = self.step(*byte, room)?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8, room: &mut u64) -> Result<State, Refusal> {
        match (self.state, byte) {
            (State::Size, _) => self.size(byte),
            (State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Extension, _) => self.extension(byte),
            (State::SizeLf, b'\n') => self.sized(room),
            (State::SizeLf, _) if self.extension > 0 => Err(Refusal::ChunkExtension),
            (State::SizeLf, _) => Err(Refusal::ChunkSize),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size),
            (State::DataCr | State::DataLf, _) => Err(Refusal::ChunkEnd),
            (State::LineStart, b'\r') => Ok(State::LastLf),
            (State::LastLf, b'\n') => Ok(State::Done),
            (State::LineStart | State::Name | State::Value | State::ValueLf, _) => self.trailer(byte),
            (State::LastLf, _) => Err(Refusal::Trailer),
            // Data and its end are not stepped through.
            (State::Data | State::Done, _) => Ok(self.state),
        }
    }

    fn size(&mut self, byte: u8) -> Result<State, Refusal> {
        match (byte, (byte as char).to_digit(16)) {
            (_, Some(digit)) if self.digits < DIGITS_MAX => {
                self.digits += 1;
                self.left = self.left * 16 + u64::from(digit);
                Ok(State::Size)
            }
            (b'\r', _) if self.digits > 0 => Ok(State::SizeLf),
            (b';', _) if self.digits > 0 => self.extension(byte),
            _ => Err(Refusal::ChunkSize),
        }
    }

    fn extension(&mut self, byte: u8) -> Result<State, Refusal> {
        self.extension += 1;
        self.extensions += 1;
        let plain = byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t');
        if !plain || self.extension > EXTENSION_MAX || self.extensions > EXTENSIONS_MAX {
            return Err(Refusal::ChunkExtension);
        }
        Ok(State::Extension)
    }

    /// The line of the size is over.
    fn sized(&mut self, room: &mut u64) -> Result<State, Refusal> {
        (self.digits, self.extension) = (0, 0);
        if self.left == 0 {
            return Ok(State::LineStart);
        }
        *room = room.checked_sub(self.left).ok_or(Refusal::BodyTooLarge)?;
        Ok(State::Data)
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Refusal> {
        self.trailers += 1;
        if self.trailers > TRAILERS_MAX {
            return Err(Refusal::Trailer);
        }
        match (self.state, byte) {
            (State::LineStart | State::Name, _) if is(byte, TOKEN) => Ok(State::Name),
            (State::Name, b':') => Ok(State::Value),
            (State::Value, b'\r') => Ok(State::ValueLf),
            (State::Value, b'\t' | b' '..=b'~' | 0x80..) => Ok(State::Value),
            (State::ValueLf, b'\n') => Ok(State::LineStart),
            _ => Err(Refusal::Trailer),
        }
    }
}
