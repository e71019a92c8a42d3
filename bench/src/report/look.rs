//! How each contender looks and what it is called, the same on the whole page.
//!
//! A contender is told from others four times over: by colour, dash, marker and its name beside the line, so that nothing
//! is lost in print, to the colour-blind, or where two lines cross. The look is a number; `page.css` has its colour and
//! dash, [`SHAPES`] its marker.

use crate::results::Setting;

/// The product.
pub(crate) const FORESHADE: &str = "foreshade";
/// Nobody reacts.
pub(crate) const NONE: &str = "none";
/// Who knows the fault beforehand.
pub(crate) const ORACLE: &str = "oracle";
/// Pingora-proxy without anything of ours.
pub(crate) const BARE: &str = "bare";

/// Contenders with a look of their own, in the order in which they are listed. Others take what is left, in turn.
const KNOWN: [&str; 7] = [FORESHADE, "nginx", "haproxy", "envoy", BARE, NONE, ORACLE];

/// Markers around the origin, by look.
pub(crate) const SHAPES: [&str; LOOKS] = [
    "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
    "M-3-3h6v6h-6z",
    "M0-3.8L3.8 3H-3.8z",
    "M0-4.2L4.2 0L0 4.2L-4.2 0z",
    "M-4-1.2h8v2.4h-8z",
    "M-3.5-2.3L-2.3-3.5L0-1.2L2.3-3.5L3.5-2.3L1.2 0L3.5 2.3L2.3 3.5L0 1.2L-2.3 3.5L-3.5 2.3L-1.2 0z",
    "M-1.2-4h2.4v2.8h2.8v2.4h-2.8v2.8h-2.4v-2.8h-2.8v-2.4h2.8z",
    "M0 3.8L3.8-3H-3.8z",
    "M-3.8 0L3-3.8V3.8z",
    "M3.8 0L-3-3.8V3.8z",
    "M-1.2-4h2.4v8h-2.4z",
    "M0-4L3.8-1.2L2.4 3.4H-2.4L-3.8-1.2z",
];

/// How many looks there are.
pub(crate) const LOOKS: usize = 12;

/// A contender in one of its configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who<'a> {
    pub(crate) contender: &'a str,
    pub(crate) setting: Setting,
}

impl<'a> Who<'a> {
    pub(crate) fn tuned(contender: &'a str) -> Self {
        Self {
            contender,
            setting: Setting::Tuned,
        }
    }

    /// Whether it stands for what is possible, and not for a program that one could install.
    pub(crate) fn is_yardstick(self) -> bool {
        [NONE, ORACLE].contains(&self.contender)
    }

    pub(crate) fn is_foreshade(self) -> bool {
        self.contender == FORESHADE && self.setting == Setting::Tuned
    }

    /// What it is called on the page.
    pub(crate) fn label(self) -> String {
        let name = match self.contender {
            NONE => "no action",
            BARE => "bare pingora",
            name => name,
        };
        match self.setting {
            Setting::Tuned => name.to_owned(),
            Setting::Defaults => format!("{name}, as it comes"),
        }
    }
}

/// All contenders of a page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cast(Vec<String>);

impl Cast {
    /// Of everybody who appears in any file, so that nobody changes colour between two sections.
    pub(crate) fn of<'a>(contenders: impl IntoIterator<Item = &'a str>) -> Self {
        let mut others: Vec<String> = Vec::new();
        for contender in contenders {
            if !KNOWN.contains(&contender) && !others.iter().any(|other| other == contender) {
                others.push(contender.to_owned());
            }
        }
        Self(others)
    }

    /// The look of a contender. Beyond the twelfth contender looks repeat, and only names tell them apart.
    pub(crate) fn look(&self, contender: &str) -> usize {
        if let Some(known) = KNOWN.iter().position(|known| *known == contender) {
            return known;
        }
        let other = self.0.iter().position(|other| other == contender).unwrap_or(0);
        KNOWN.len() + other % (LOOKS - KNOWN.len())
    }

    /// Place in every list: the product, its rivals, what is possible; as it comes after tuned.
    pub(crate) fn rank(&self, who: Who<'_>) -> (usize, usize, Setting) {
        let other = self.0.iter().position(|other| other == who.contender);
        match KNOWN.iter().position(|known| *known == who.contender) {
            Some(known) if who.is_yardstick() => (2, known, who.setting),
            Some(known) => (0, known, who.setting),
            None => (1, other.unwrap_or(usize::MAX), who.setting),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn everybody_looks_different_up_to_the_twelfth() {
        let names = ["traefik", "nginx", "caddy", "x", "y", "z"];
        let cast = Cast::of(names);
        let looks: BTreeSet<usize> = KNOWN.iter().chain(&names).map(|name| cast.look(name)).collect();
        assert_eq!(looks.len(), LOOKS);
    }

    #[test]
    fn the_product_is_listed_first_and_what_is_possible_last() {
        let cast = Cast::of(["caddy"]);
        let mut all = ["oracle", "caddy", "none", "envoy", "foreshade"]
            .map(Who::tuned)
            .to_vec();
        all.push(Who {
            contender: "envoy",
            setting: Setting::Defaults,
        });
        all.sort_by_key(|who| cast.rank(*who));
        let labels: Vec<String> = all.into_iter().map(Who::label).collect();
        assert_eq!(
            labels,
            [
                "foreshade",
                "envoy",
                "envoy, as it comes",
                "caddy",
                "no action",
                "oracle"
            ]
        );
    }
}
