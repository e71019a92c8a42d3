//! One answer's body on its way into fewer bytes.
//!
//! A codec is given a piece and gives what it has finished; what it holds back it gives when it is flushed, which costs a
//! few bytes, so whoever feeds it does that when nothing more is at hand. Neither side is ever kept whole: what is here is
//! one piece and the codec's own window.

use std::io::{self, Write as _};
use std::sync::Arc;

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::write::GzEncoder;
use zstd::zstd_safe::CParameter;

use super::{Coding, Effort};

/// Answers that a worker compresses at a time. Each holds its codec's memory, two megabytes at most; what is beyond is
/// passed on as it is.
pub const ENCODERS_MAX: usize = 256;

/// Window of zstd and brotli, as a power of two: 256 KiB, of which nearly all is gained on what is sent over the web, at an
/// eighth of the memory that their own defaults would take.
const WINDOW_LOG: u32 = 18;

/// Tables of zstd where it does most, as a power of two: an entry for every second byte of the window. Its own default for
/// this level is eleven megabytes for each answer, and a smaller window alone does not make them smaller where the length
/// is not known.
const TABLE_LOG: u32 = 17;

/// Bytes that brotli gathers before it looks at them.
const GATHERED_BYTES: usize = 4096;

/// A body that is being encoded.
pub struct Encoder {
    coding: Coding,
    codec: Codec,
    /// Something went in, and was not flushed.
    holds: bool,
    taken: u64,
    given: u64,
    /// Counts it among those of its worker.
    _place: Arc<()>,
}

enum Codec {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// An encoder, unless there are too many of those that `places` counts.
    ///
    /// # Errors
    /// The codec has no memory.
    pub fn new(coding: Coding, effort: Effort, places: &Arc<()>) -> io::Result<Option<Self>> {
        // One is the worker's own.
        if Arc::strong_count(places) > ENCODERS_MAX {
            return Ok(None);
        }
        let codec = match coding {
            Coding::Gzip => {
                let level = match effort {
                    Effort::Fast => 1,
                    Effort::Balanced => 5,
                    Effort::Small => 9,
                };
                Codec::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(level)))
            }
            Coding::Brotli => {
                let quality = match effort {
                    Effort::Fast => 2,
                    Effort::Balanced => 4,
                    // From 7 on its table alone has eight megabytes, and from 6 on two.
                    Effort::Small => 5,
                };
                let writer = CompressorWriter::new(Vec::new(), GATHERED_BYTES, quality, WINDOW_LOG);
                Codec::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let level = match effort {
                    Effort::Fast => 1,
                    Effort::Balanced => 3,
                    Effort::Small => 9,
                };
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
                encoder.window_log(WINDOW_LOG)?;
                if effort == Effort::Small {
                    encoder.set_parameter(CParameter::HashLog(TABLE_LOG))?;
                    encoder.set_parameter(CParameter::ChainLog(TABLE_LOG))?;
                }
                Codec::Zstd(encoder)
            }
        };
        Ok(Some(Self {
            coding,
            codec,
            holds: false,
            taken: 0,
            given: 0,
            _place: places.clone(),
        }))
    }

    /// What it makes of the body.
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// Bytes that went in and came out.
    pub fn counts(&self) -> (u64, u64) {
        (self.taken, self.given)
    }

    /// Whether something may be in it that the client could have.
    pub fn holds(&self) -> bool {
        self.holds
    }

    /// Takes a piece, and gives what is finished; nothing, often.
    ///
    /// # Errors
    /// The codec is broken.
    pub fn encode(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        self.holds |= !piece.is_empty();
        self.taken += piece.len() as u64;
        match &mut self.codec {
            Codec::Gzip(codec) => codec.write_all(piece)?,
            Codec::Brotli(codec) => codec.write_all(piece)?,
            Codec::Zstd(codec) => codec.write_all(piece)?,
        }
        Ok(self.given())
    }

    /// Gives all that it holds: whoever has this can read all that went in.
    ///
    /// # Errors
    /// The codec is broken.
    pub fn flush(&mut self) -> io::Result<Bytes> {
        self.holds = false;
        match &mut self.codec {
            Codec::Gzip(codec) => codec.flush()?,
            Codec::Brotli(codec) => codec.flush()?,
            Codec::Zstd(codec) => codec.flush()?,
        }
        Ok(self.given())
    }

    /// Gives what is left, and the end. The counts of all.
    ///
    /// # Errors
    /// The codec is broken.
    pub fn finish(self) -> io::Result<(Bytes, (u64, u64))> {
        let last = match self.codec {
            Codec::Gzip(codec) => codec.finish()?,
            // Writes the end on its way out.
            Codec::Brotli(codec) => codec.into_inner(),
            Codec::Zstd(codec) => codec.finish()?,
        };
        let counts = (self.taken, self.given + last.len() as u64);
        Ok((last.into(), counts))
    }

    fn given(&mut self) -> Bytes {
        let out = match &mut self.codec {
            Codec::Gzip(codec) => codec.get_mut(),
            Codec::Brotli(codec) => codec.get_mut(),
            Codec::Zstd(codec) => codec.get_mut(),
        };
        self.given += out.len() as u64;
        std::mem::take(out).into()
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder")
            .field("coding", &self.coding)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}
