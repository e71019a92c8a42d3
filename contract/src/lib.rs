//! What proxy and controller promise each other: names and units, checked where they enter.
//!
//! No logic lives here. A type in this crate means the same on both sides of the wire, so each one refuses at its
//! constructor what the other side could not represent: a share above one, a risk that is not a number, a name
//! that would break a metric label.

pub mod name;
pub mod units;

pub use name::{Name, NameError};
pub use units::{Risk, Share, UnitError};
