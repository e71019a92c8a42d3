//! The two directions of the link: envelopes, and who speaks.

use prost::Message as _;

use super::{MESSAGE_BYTES_MAX, WireError, at_most, cut, encoded, name, proto};
use super::{encode_delta, encode_plan, encode_report};
use crate::pair::Epoch;
use crate::plan::{Delta, Plan, PlanId};
use crate::report::{
    BootId, DETAIL_BYTES_MAX, Hello, Reason, Refused, Report, Status, UNAPPLIED_MAX, Unapplied,
    VERSION_BYTES_MAX, WHY_BYTES_MAX,
};

/// From a proxy, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Upward {
    /// Who speaks.
    Hello(Hello),
    /// What it saw.
    Report(Report),
    /// What became of plans.
    Status(Status),
}

/// From the controller, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Downward {
    /// The answer to a hello.
    Welcome(Welcome),
    /// The full intention.
    Plan(Plan),
    /// What makes it out of another plan.
    Delta(Delta),
}

/// The answer to a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version of the controller's program.
    pub version: String,
    /// The epoch in which it writes.
    pub epoch: Epoch,
}

/// A message from the controller that is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the controller's message is refused")]
pub struct Unreadable {
    /// The plan that it was about, where that could be read.
    pub plan: Option<PlanId>,
    /// Why.
    pub source: WireError,
}

impl Upward {
    /// As a message.
    pub fn message(&self) -> proto::Up {
        let body = match self {
            Self::Hello(hello) => proto::up::Body::Hello(proto::Hello {
                boot: hello.boot.0,
                proxy: hello.proxy.to_string(),
                version: cut(&hello.version, VERSION_BYTES_MAX),
                plan: hello.plan.map(Into::into),
                pieces: hello.pieces,
            }),
            Self::Report(report) => proto::up::Body::Report(encode_report(report)),
            Self::Status(status) => proto::up::Body::Status(status.into()),
        };
        proto::Up { body: Some(body) }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When it breaks a rule.
    pub fn read(message: proto::Up) -> Result<Self, WireError> {
        match message.body.ok_or(WireError::Missing("body"))? {
            proto::up::Body::Hello(hello) => hello.try_into().map(Self::Hello),
            proto::up::Body::Report(bytes) => proto::Report::decode(bytes)?.try_into().map(Self::Report),
            proto::up::Body::Status(status) => status.try_into().map(Self::Status),
        }
    }
}

impl Downward {
    /// As a message.
    pub fn message(&self) -> proto::Down {
        let body = match self {
            Self::Welcome(welcome) => proto::down::Body::Welcome(proto::Welcome {
                version: cut(&welcome.version, VERSION_BYTES_MAX),
                epoch: welcome.epoch.0,
            }),
            Self::Plan(plan) => proto::down::Body::Plan(encode_plan(plan)),
            Self::Delta(delta) => proto::down::Body::Delta(encode_delta(delta)),
        };
        proto::Down { body: Some(body) }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When it breaks a rule.
    pub fn read(message: proto::Down) -> Result<Self, Unreadable> {
        let unreadable = |plan| move |source| Unreadable { plan, source };
        let nothing = unreadable(None);
        match message.body.ok_or(WireError::Missing("body")).map_err(nothing)? {
            proto::down::Body::Welcome(welcome) => {
                at_most("version", VERSION_BYTES_MAX, welcome.version.len()).map_err(unreadable(None))?;
                Ok(Self::Welcome(Welcome {
                    version: welcome.version,
                    epoch: Epoch(welcome.epoch),
                }))
            }
            proto::down::Body::Plan(bytes) => {
                let plan = proto::Plan::decode(bytes).map_err(|error| unreadable(None)(error.into()))?;
                let id = plan.id.map(PlanId::from);
                plan.try_into().map(Self::Plan).map_err(unreadable(id))
            }
            proto::down::Body::Delta(bytes) => {
                let delta = proto::Delta::decode(bytes).map_err(|error| unreadable(None)(error.into()))?;
                let id = delta.id.map(PlanId::from);
                delta.try_into().map(Self::Delta).map_err(unreadable(id))
            }
            // Whoever takes them gathers them before this.
            proto::down::Body::Piece(_) => Err(unreadable(None)(WireError::Missing("piece.rest"))),
        }
    }

    /// Reads a message from its bytes, for whoever has no stream: tests and tools.
    ///
    /// # Errors
    /// When it breaks a rule.
    pub fn read_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        let refused = |source| Unreadable { plan: None, source };
        at_most("message", MESSAGE_BYTES_MAX, bytes.len()).map_err(refused)?;
        Self::read(proto::Down::decode(bytes).map_err(|error| refused(error.into()))?)
    }

    /// As bytes.
    pub fn bytes(&self) -> bytes::Bytes {
        encoded(&self.message())
    }
}

impl TryFrom<proto::Hello> for Hello {
    type Error = WireError;

    fn try_from(hello: proto::Hello) -> Result<Self, WireError> {
        at_most("hello.version", VERSION_BYTES_MAX, hello.version.len())?;
        if hello.boot == 0 {
            return Err(WireError::Missing("hello.boot"));
        }
        Ok(Self {
            boot: BootId(hello.boot),
            proxy: name("hello.proxy", &hello.proxy)?,
            version: hello.version,
            plan: hello.plan.map(Into::into),
            pieces: hello.pieces,
        })
    }
}

impl From<&Status> for proto::Status {
    fn from(status: &Status) -> Self {
        let unapplied = status
            .unapplied
            .iter()
            .take(UNAPPLIED_MAX)
            .map(|one| proto::Unapplied {
                pair: Some((&one.pair).into()),
                why: cut(&one.why, WHY_BYTES_MAX),
            });
        Self {
            plan: status.plan.map(Into::into),
            persisted: status.persisted,
            refused: status.refused.as_ref().map(|refused| proto::Refused {
                plan: refused.plan.map(Into::into),
                reason: reason_number(refused.reason).into(),
                detail: cut(&refused.detail, DETAIL_BYTES_MAX),
            }),
            unapplied: unapplied.collect(),
            unapplied_total: u32::try_from(status.unapplied_total).unwrap_or(u32::MAX),
        }
    }
}

impl TryFrom<proto::Status> for Status {
    type Error = WireError;

    fn try_from(status: proto::Status) -> Result<Self, WireError> {
        at_most("status.unapplied", UNAPPLIED_MAX, status.unapplied.len())?;
        let unapplied = status.unapplied.into_iter().map(|one| {
            at_most("unapplied.why", WHY_BYTES_MAX, one.why.len())?;
            Ok(Unapplied {
                pair: one.pair.ok_or(WireError::Missing("unapplied.pair"))?.try_into()?,
                why: one.why,
            })
        });
        let refused = status.refused.map(|refused| {
            at_most("refused.detail", DETAIL_BYTES_MAX, refused.detail.len())?;
            Ok::<_, WireError>(Refused {
                plan: refused.plan.map(Into::into),
                reason: reason(refused.reason),
                detail: refused.detail,
            })
        });
        Ok(Self {
            plan: status.plan.map(Into::into),
            persisted: status.persisted,
            refused: refused.transpose()?,
            unapplied: unapplied.collect::<Result<_, WireError>>()?,
            unapplied_total: usize::try_from(status.unapplied_total).unwrap_or(usize::MAX),
        })
    }
}

fn reason_number(reason: Reason) -> proto::refused::Reason {
    match reason {
        Reason::Other => proto::refused::Reason::Unspecified,
        Reason::Malformed => proto::refused::Reason::Malformed,
        Reason::StaleEpoch => proto::refused::Reason::StaleEpoch,
        Reason::StaleGeneration => proto::refused::Reason::StaleGeneration,
        Reason::WrongBase => proto::refused::Reason::WrongBase,
        Reason::NotReady => proto::refused::Reason::NotReady,
    }
}

/// A reason that a newer version has is one all the same.
fn reason(number: i32) -> Reason {
    match proto::refused::Reason::try_from(number) {
        Ok(proto::refused::Reason::Malformed) => Reason::Malformed,
        Ok(proto::refused::Reason::StaleEpoch) => Reason::StaleEpoch,
        Ok(proto::refused::Reason::StaleGeneration) => Reason::StaleGeneration,
        Ok(proto::refused::Reason::WrongBase) => Reason::WrongBase,
        Ok(proto::refused::Reason::NotReady) => Reason::NotReady,
        Ok(proto::refused::Reason::Unspecified) | Err(_) => Reason::Other,
    }
}
