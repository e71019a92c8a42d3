//! Which endpoints a scenario has, and which of them a fault is for.

use serde::Deserialize;

use crate::stage::topology::Pair;

/// Who stands by for whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Site {
    /// Four primaries, each with a standby of its own.
    #[default]
    Pairs,
    /// Four primaries that share two standbys.
    Pool,
    /// One primary and its standby.
    Single,
}

/// Who gets a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// The endpoint that the scenario is about.
    Faulty,
    /// Its standby.
    Standby,
    /// All endpoints that are no standbys.
    Primaries,
    /// All standbys.
    Standbys,
    /// All endpoints and all standbys.
    Everybody,
}

impl Site {
    /// Its primaries with their standbys.
    pub fn pairs(self) -> Vec<Pair> {
        let pair = |(primary, shadow): &(&str, &str)| Pair {
            primary: (*primary).to_owned(),
            shadow: Some((*shadow).to_owned()),
        };
        match self {
            Self::Pairs => [
                ("a", "a-standby"),
                ("b", "b-standby"),
                ("c", "c-standby"),
                ("d", "d-standby"),
            ]
            .iter()
            .map(pair)
            .collect(),
            Self::Pool => [
                ("a", "standby-1"),
                ("b", "standby-1"),
                ("c", "standby-2"),
                ("d", "standby-2"),
            ]
            .iter()
            .map(pair)
            .collect(),
            Self::Single => vec![pair(&("a", "a-standby"))],
        }
    }
}

/// Index among the primaries of the endpoint that becomes faulty.
pub fn faulty(pairs: &[Pair]) -> usize {
    pairs.len().saturating_sub(1).min(1)
}

/// The standbys of `pairs`, each once, in their order.
pub fn standbys(pairs: &[Pair]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for shadow in pairs.iter().filter_map(|pair| pair.shadow.as_ref()) {
        if !names.contains(shadow) {
            names.push(shadow.clone());
        }
    }
    names
}

impl At {
    /// The endpoints that are meant, each once.
    pub fn names(self, pairs: &[Pair]) -> Vec<String> {
        let primaries = || pairs.iter().map(|pair| pair.primary.clone());
        let pair = pairs.get(faulty(pairs));
        match self {
            Self::Faulty => pair.map(|pair| pair.primary.clone()).into_iter().collect(),
            Self::Standby => pair.and_then(|pair| pair.shadow.clone()).into_iter().collect(),
            Self::Primaries => primaries().collect(),
            Self::Standbys => standbys(pairs),
            Self::Everybody => primaries().chain(standbys(pairs)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_goes_to_whom_it_is_meant_for() {
        let pool = Site::Pool.pairs();
        assert_eq!(At::Faulty.names(&pool), ["b"]);
        assert_eq!(At::Standby.names(&pool), ["standby-1"]);
        assert_eq!(At::Primaries.names(&pool), ["a", "b", "c", "d"]);
        assert_eq!(
            At::Standbys.names(&pool),
            ["standby-1", "standby-2"],
            "who is shared is one"
        );
        assert_eq!(At::Everybody.names(&pool).len(), 6);
    }

    #[test]
    fn where_there_is_one_endpoint_it_is_the_faulty_one() {
        let single = Site::Single.pairs();
        assert_eq!(At::Faulty.names(&single), ["a"]);
        assert_eq!(At::Standby.names(&single), ["a-standby"]);
    }
}
