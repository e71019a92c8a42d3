//! What proxy and controller promise each other: names, units, ids, plans and reports, checked where they enter.
//!
//! No logic lives here. A type in this crate means the same on both sides of the wire, so each one refuses at its
//! constructor what the other side could not represent: a share above one, a risk that is not a number, a name
//! that would break a metric label. How they travel is in `wire`, behind a feature: the engine does not talk.

pub mod histogram;
pub mod name;
pub mod pair;
pub mod plan;
pub mod report;
pub mod units;

#[cfg(feature = "wire")]
pub mod wire;

pub use histogram::Histogram;
pub use name::{Name, NameError};
pub use pair::{Arm, Epoch, Generation, PairId, Round};
pub use plan::{Delta, PairPlan, Plan, PlanId};
pub use report::{ArmCounters, BootId, Hello, Mirrored, PairReport, Report, Status};
pub use units::{Risk, Share, UnitError};
