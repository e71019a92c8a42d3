//! Parts of the engine that a simulation can take out, to see whether they earn their place.
//!
//! A part that nothing becomes worse without is not kept. The set is empty everywhere but in the [`crate::model`]: the only
//! way to set it is not visible outside this crate, so no configuration can reach it, and nothing on the request path
//! looks at it. What lies on the request path is taken out by the model itself, which withholds or falsifies what the
//! part lives from; what lies in a tick is taken out where it stands, by one condition each.

/// A part, named by what stands in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Part {
    /// Failures are evidence from the fifth in a row on, instead of by their share (CUSUM).
    ConsecutiveFive,
    /// Nobody looks at the age of what waits: a hang shows in timeouts only.
    NoAges,
    /// Nobody counts what is in flight, neither to balance by it nor to excuse slowness with it.
    NoInFlight,
    /// The causes of a risk are averaged, instead of added up as hazards.
    MeanRisk,
    /// No capacity bounds what moves to a shadow.
    NoCapacity,
    /// One threshold, no hold, no memory of a relapse, all back at once.
    NoHysteresis,
    /// A random number per request decides about the side, instead of the user's hash.
    RandomSides,
    /// Retries cost nothing.
    NoBudget,
}

impl Part {
    /// All parts, in the order of the ladder.
    pub const ALL: [Self; 8] = [
        Self::ConsecutiveFive,
        Self::NoAges,
        Self::NoInFlight,
        Self::MeanRisk,
        Self::NoCapacity,
        Self::NoHysteresis,
        Self::RandomSides,
        Self::NoBudget,
    ];

    /// Its name on the command line.
    pub fn label(self) -> &'static str {
        match self {
            Self::ConsecutiveFive => "consecutive-5",
            Self::NoAges => "no-ages",
            Self::NoInFlight => "no-in-flight",
            Self::MeanRisk => "mean-risk",
            Self::NoCapacity => "no-capacity",
            Self::NoHysteresis => "no-hysteresis",
            Self::RandomSides => "random-sides",
            Self::NoBudget => "no-budget",
        }
    }

    /// The part of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.label() == name)
    }
}

/// A set of parts that are taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ablations(u8);

impl Ablations {
    /// The same, and this part taken out as well.
    #[must_use]
    pub const fn with(self, part: Part) -> Self {
        Self(self.0 | 1 << part as u8)
    }

    /// Whether the part is taken out.
    pub const fn has(self, part: Part) -> bool {
        self.0 & (1 << part as u8) != 0
    }

    /// The parts that are taken out.
    pub fn parts(self) -> impl Iterator<Item = Part> {
        Part::ALL.into_iter().filter(move |part| self.has(*part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_into_it_and_nothing_else() {
        let set = Ablations::default()
            .with(Part::NoBudget)
            .with(Part::ConsecutiveFive);
        let parts: Vec<_> = set.parts().collect();
        assert_eq!(parts, [Part::ConsecutiveFive, Part::NoBudget]);
        assert!(Ablations::default().parts().next().is_none());
    }

    #[test]
    fn a_part_is_found_by_its_name() {
        for part in Part::ALL {
            assert_eq!(Part::named(part.label()), Some(part));
        }
        assert_eq!(Part::named("everything"), None);
    }
}
