//! How plans and reports travel: the messages of `link.proto`, and checked conversions to the types of this crate.
//!
//! Nothing of a message is used before all of it has been checked: each conversion into our types says what is wrong and
//! where, and leaves nothing half done. What a newer version added is ignored, what an older one does not send is taken
//! for its default: the rule is at the head of `link.proto`.
//!
//! Plans and reports travel as bytes inside of their envelopes. So a controller encodes a plan once for all its proxies,
//! and a plan that cannot be read is refused by name, while the link goes on.

mod pieces;
mod plan;
mod report;
mod talk;

use bytes::Bytes;

use crate::histogram::HistogramError;
use crate::name::{Name, NameError};
use crate::pair::{Arm, Epoch, Generation, PairId};
use crate::plan::{PlanError, PlanId};
use crate::units::UnitError;

pub use self::pieces::{Gathering, Pieces};
pub use self::plan::{decode_plan, encode_delta, encode_plan};
pub use self::report::{PIECE_BYTES, encode_report, report_pieces};
pub use self::talk::{Downward, Unreadable, Upward, Welcome};

/// The messages and the service, as they are generated.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::needless_pass_by_value,
    reason = "generated; link.proto has the documentation"
)]
pub mod proto {
    tonic::include_proto!("foreshade.link.v1");
}

/// Longest message: three times the largest plan.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a message is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WireError {
    /// It is no such message.
    #[error("cannot be decoded")]
    Decode(#[from] prost::DecodeError),
    /// Something that has to be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A name that is none.
    #[error("{field} is no name")]
    Name {
        /// Which field.
        field: &'static str,
        /// Why not.
        source: NameError,
    },
    /// A number outside of its range.
    #[error("{0} is out of range")]
    Range(&'static str),
    /// A share or a risk that is none.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// What makes no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// What makes no histogram.
    #[error(transparent)]
    Histogram(#[from] HistogramError),
    /// More of something than there may be.
    #[error("{field} has at most {limit} of them, not {found}")]
    TooMany {
        /// Which field.
        field: &'static str,
        /// How many there may be.
        limit: usize,
        /// How many there are.
        found: usize,
    },
    /// The same thing twice.
    #[error("{0} is there twice")]
    Twice(&'static str),
}

/// Refuses more of something than there may be.
fn at_most(field: &'static str, limit: usize, found: usize) -> Result<(), WireError> {
    if found > limit {
        return Err(WireError::TooMany { field, limit, found });
    }
    Ok(())
}

fn name(field: &'static str, text: &str) -> Result<Name, WireError> {
    text.parse().map_err(|source| WireError::Name { field, source })
}

/// Four numbers, or none at all.
fn four(field: &'static str, numbers: &[u64]) -> Result<Option<[u64; 4]>, WireError> {
    match numbers {
        [] => Ok(None),
        [a, b, c, d] => Ok(Some([*a, *b, *c, *d])),
        _ => Err(WireError::Range(field)),
    }
}

/// A text, cut to a limit at the border of a character.
fn cut(text: &str, bytes_max: usize) -> String {
    let mut ends = (0..=bytes_max.min(text.len())).rev();
    let end = ends.find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    text.get(..end).unwrap_or_default().to_owned()
}

fn encoded(message: &impl prost::Message) -> Bytes {
    message.encode_to_vec().into()
}

impl From<PlanId> for proto::PlanId {
    fn from(id: PlanId) -> Self {
        Self {
            epoch: id.epoch.0,
            generation: id.generation.0,
        }
    }
}

impl From<proto::PlanId> for PlanId {
    fn from(id: proto::PlanId) -> Self {
        Self {
            epoch: Epoch(id.epoch),
            generation: Generation(id.generation),
        }
    }
}

impl From<&PairId> for proto::PairId {
    fn from(id: &PairId) -> Self {
        Self {
            cluster: id.cluster.to_string(),
            primary: id.primary.to_string(),
        }
    }
}

impl TryFrom<proto::PairId> for PairId {
    type Error = WireError;

    fn try_from(id: proto::PairId) -> Result<Self, WireError> {
        Ok(Self {
            cluster: name("pair.cluster", &id.cluster)?,
            primary: name("pair.primary", &id.primary)?,
        })
    }
}

impl From<Arm> for proto::Arm {
    fn from(arm: Arm) -> Self {
        match arm {
            Arm::Primary => Self::Primary,
            Arm::Shadow => Self::Shadow,
        }
    }
}

/// An arm that a message has to name.
fn arm(field: &'static str, number: i32) -> Result<Arm, WireError> {
    match proto::Arm::try_from(number) {
        Ok(proto::Arm::Primary) => Ok(Arm::Primary),
        Ok(proto::Arm::Shadow) => Ok(Arm::Shadow),
        Ok(proto::Arm::Unspecified) => Err(WireError::Missing(field)),
        Err(_) => Err(WireError::Range(field)),
    }
}

#[cfg(test)]
mod tests;
