//! How a fault is written in JSON and YAML: one flat map with its kind, the numbers of that kind, and the keys that
//! all share.
//!
//! Flat, because people write faults by hand, on one line. Read through one struct that knows every key and refuses
//! others, and not through an enum tagged by `kind`: serde would buffer that, and the place of a mistake in a file
//! would be lost. A key of another kind is refused too, so that nobody believes in a factor of his errors.

use serde::{Deserialize, Serialize};

use super::{Fault, Kind, Only, Times};
use crate::quantity::{Part, Time};

/// How long a process that leaks lives, and how long its restart takes, where that is not said.
const LEAK: (Time, Time) = (
    Time(std::time::Duration::from_secs(60)),
    Time(std::time::Duration::from_secs(2)),
);

/// What part of a body is sent before the end, where that is not said.
const EARLY: Part = Part(0.5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Name {
    Slow,
    Ramp,
    Leak,
    Errors,
    Resets,
    Garbage,
    EarlyClose,
    SlowBody,
    Hang,
    Pause,
    Capacity,
    Refuse,
}

/// A fault as it stands in a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    kind: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    over: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    growth: Option<Part>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dies_after: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restarts_after: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<Part>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<Part>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bodies_above: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<Part>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Time>,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    lasting: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<Time>,
}

impl Written {
    fn of(kind: Name) -> Self {
        Self {
            kind,
            factor: None,
            to: None,
            over: None,
            growth: None,
            dies_after: None,
            restarts_after: None,
            status: None,
            part: None,
            bytes_per_s: None,
            left: None,
            cut: None,
            path_prefix: None,
            bodies_above: None,
            share: None,
            after: None,
            lasting: None,
            every: None,
        }
    }

    /// Takes the numbers of its kind out.
    fn take_kind(&mut self) -> Result<Kind, String> {
        Ok(match self.kind {
            Name::Slow => Kind::Slow {
                factor: need("factor", self.factor.take())?,
            },
            Name::Ramp => Kind::Ramp {
                to: need("to", self.to.take())?,
                over: need("over", self.over.take())?.0,
            },
            Name::Leak => Kind::Leak {
                growth: need("growth", self.growth.take())?.0,
                dies_after: self.dies_after.take().unwrap_or(LEAK.0).0,
                restarts_after: self.restarts_after.take().unwrap_or(LEAK.1).0,
            },
            Name::Errors => Kind::Errors {
                status: self.status.take().unwrap_or(500),
            },
            Name::Resets => Kind::Resets,
            Name::Garbage => Kind::Garbage,
            Name::EarlyClose => Kind::EarlyClose {
                part: self.part.take().unwrap_or(EARLY).0,
            },
            Name::SlowBody => Kind::SlowBody {
                bytes_per_s: need("bytes_per_s", self.bytes_per_s.take())?,
            },
            Name::Hang => Kind::Hang,
            Name::Pause => Kind::Pause,
            Name::Capacity => Kind::Capacity {
                left: need("left", self.left.take())?.0,
            },
            Name::Refuse => Kind::Refuse {
                cut: self.cut.take().unwrap_or(false),
            },
        })
    }

    /// The first number that its kind had no use for.
    fn of_another_kind(&self) -> Option<&'static str> {
        let numbers = [
            ("factor", self.factor.is_some()),
            ("to", self.to.is_some()),
            ("over", self.over.is_some()),
            ("growth", self.growth.is_some()),
            ("dies_after", self.dies_after.is_some()),
            ("restarts_after", self.restarts_after.is_some()),
            ("status", self.status.is_some()),
            ("part", self.part.is_some()),
            ("bytes_per_s", self.bytes_per_s.is_some()),
            ("left", self.left.is_some()),
            ("cut", self.cut.is_some()),
        ];
        numbers.iter().find(|(_, there)| *there).map(|(name, _)| *name)
    }
}

fn need<T>(name: &str, value: Option<T>) -> Result<T, String> {
    value.ok_or_else(|| format!("this kind of fault needs `{name}`"))
}

impl TryFrom<Written> for Fault {
    type Error = String;

    fn try_from(mut written: Written) -> Result<Self, String> {
        let kind = written.take_kind()?;
        if let Some(name) = written.of_another_kind() {
            return Err(format!("this kind of fault has no `{name}`"));
        }
        let fault = Self {
            kind,
            only: Only {
                path_prefix: written.path_prefix,
                bodies_above: written.bodies_above,
                share: written.share.map_or(1.0, |share| share.0),
            },
            times: Times {
                after: written.after.unwrap_or_default().0,
                lasting: written.lasting.map(|time| time.0),
                every: written.every.map(|time| time.0),
            },
        };
        fault.check().map(|()| fault)
    }
}

impl From<Fault> for Written {
    fn from(fault: Fault) -> Self {
        let mut written = match fault.kind {
            Kind::Slow { factor } => Self {
                factor: Some(factor),
                ..Self::of(Name::Slow)
            },
            Kind::Ramp { to, over } => Self {
                to: Some(to),
                over: Some(Time(over)),
                ..Self::of(Name::Ramp)
            },
            Kind::Leak {
                growth,
                dies_after,
                restarts_after,
            } => Self {
                growth: Some(Part(growth)),
                dies_after: Some(Time(dies_after)),
                restarts_after: Some(Time(restarts_after)),
                ..Self::of(Name::Leak)
            },
            Kind::Errors { status } => Self {
                status: Some(status),
                ..Self::of(Name::Errors)
            },
            Kind::Resets => Self::of(Name::Resets),
            Kind::Garbage => Self::of(Name::Garbage),
            Kind::EarlyClose { part } => Self {
                part: Some(Part(part)),
                ..Self::of(Name::EarlyClose)
            },
            Kind::SlowBody { bytes_per_s } => Self {
                bytes_per_s: Some(bytes_per_s),
                ..Self::of(Name::SlowBody)
            },
            Kind::Hang => Self::of(Name::Hang),
            Kind::Pause => Self::of(Name::Pause),
            Kind::Capacity { left } => Self {
                left: Some(Part(left)),
                ..Self::of(Name::Capacity)
            },
            Kind::Refuse { cut } => Self {
                cut: Some(cut),
                ..Self::of(Name::Refuse)
            },
        };
        written.path_prefix = fault.only.path_prefix;
        written.bodies_above = fault.only.bodies_above;
        written.share = Some(Part(fault.only.share)).filter(|share| share.0.total_cmp(&1.0).is_ne());
        written.after = (!fault.times.after.is_zero()).then_some(Time(fault.times.after));
        written.lasting = fault.times.lasting.map(Time);
        written.every = fault.times.every.map(Time);
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 13] = [
        r#"{"kind":"slow","factor":10.0}"#,
        r#"{"kind":"slow","factor":10.0,"path_prefix":"/e","bodies_above":65536,"share":0.05}"#,
        r#"{"kind":"ramp","to":20.0,"over":"12s"}"#,
        r#"{"kind":"leak","growth":0.02,"dies_after":"1m","restarts_after":"2s"}"#,
        r#"{"kind":"errors","status":503,"share":0.5}"#,
        r#"{"kind":"resets"}"#,
        r#"{"kind":"garbage"}"#,
        r#"{"kind":"early_close","part":0.5}"#,
        r#"{"kind":"slow_body","bytes_per_s":100}"#,
        r#"{"kind":"hang","after":"1s","for":"1s","every":"2s"}"#,
        r#"{"kind":"pause","for":"500ms","every":"10s"}"#,
        r#"{"kind":"capacity","left":0.5}"#,
        r#"{"kind":"refuse","cut":true}"#,
    ];

    #[test]
    fn a_fault_of_every_kind_survives_the_wire() {
        for text in ALL {
            let fault: Fault = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&fault).unwrap(), text);
            let of_yaml: Fault = serde_saphyr::from_str(text).unwrap();
            assert_eq!(of_yaml, fault);
        }
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let read = |text: &str| serde_saphyr::from_str::<Fault>(text).unwrap();
        assert_eq!(read("{ kind: slow, factor: 10 }"), Fault::slow(10.0));
        assert_eq!(read("{ kind: errors, share: 5% }"), Fault::errors(0.05));
        assert_eq!(read("{ kind: refuse }"), Fault::refuse(false));
        assert_eq!(
            read("{ kind: leak, growth: 2% }"),
            read("{ kind: leak, growth: 0.02, dies_after: 60s, restarts_after: 2s }")
        );
    }

    #[test]
    fn nonsense_is_refused_with_what_is_wrong() {
        for (text, expected) in [
            ("{ kind: slow, speed: 10 }", "speed"),
            ("{ kind: lazy }", "lazy"),
            ("{ kind: slow }", "needs `factor`"),
            ("{ kind: errors, factor: 2 }", "has no `factor`"),
            ("{ kind: hang, cut: true }", "has no `cut`"),
            ("{ kind: errors, share: 150% }", "between 0 and 1"),
            ("{ kind: hang, every: 2s }", "`every` needs `for`"),
            ("{ kind: hang, for: 2 }", "duration with its unit"),
            ("{ kind: refuse, share: 50% }", "whole process"),
        ] {
            let error = serde_saphyr::from_str::<Fault>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    /// A scenario has a fault with a place beside it.
    #[test]
    fn a_fault_is_part_of_a_larger_entry_that_still_refuses_unknown_keys() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Entry {
            at: String,
            #[serde(flatten)]
            fault: Fault,
        }
        let entry: Entry =
            serde_saphyr::from_str("{ at: faulty, kind: pause, for: 500ms, every: 10s }").unwrap();
        assert_eq!((entry.at.as_str(), entry.fault.kind), ("faulty", Kind::Pause));
        for text in [
            "{ at: faulty, kind: hang, speed: 10 }",
            "{ at: faulty, kind: hang, factor: 10 }",
        ] {
            assert!(serde_saphyr::from_str::<Entry>(text).is_err(), "{text}");
        }
    }
}
