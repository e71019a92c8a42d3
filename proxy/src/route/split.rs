//! One cluster, or several by weight: and which of them serves a user.
//!
//! Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights by the logarithm of Schindelhauer and Schomaker 2005):
//! each cluster draws a number from the hash of the user and of its own name, and the best one serves. So a user stays
//! where he is, and a cluster with nobody to serve gives its users to the others in the ratio of their weights while all
//! other users stay where they are. With cumulative weights, as rivals have them, one cluster's absence moves the borders
//! of all. A weight that is raised only brings users in, one that is lowered only sends users away.
//!
//! The hash has nothing to do with the salts of shifts, so that a shift inside of one cluster picks among all its users.

use foreshade_engine::cohort::Cohort;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Most clusters of one route: each costs a logarithm per request.
pub const CLUSTERS_MAX: usize = 16;

/// The clusters of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    first: Choice,
    /// Further ones; none for most routes.
    others: Vec<Choice>,
}

/// One cluster and its part of the users.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Index of the cluster.
    pub cluster: usize,
    /// Relative weight, above 0.
    pub weight: f64,
    seed: u64,
}

impl Choice {
    /// A choice. The name of the cluster decides which users it draws, so that the order in the file does not matter.
    pub fn new(cluster: usize, name: &str, weight: f64) -> Self {
        Self {
            cluster,
            weight,
            seed: xxh3_64(name.as_bytes()),
        }
    }

    /// How strongly it draws a user; the largest wins.
    fn score(&self, cohort: Cohort) -> f64 {
        let hash = xxh3_64_with_seed(&cohort.hash().to_le_bytes(), self.seed);
        // In the middle of each of 2^53 steps: neither 0 nor 1, so that the logarithm is finite and below 0.
        let uniform = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -self.weight / uniform.ln()
    }
}

impl Split {
    /// All requests to one cluster.
    pub fn one(cluster: usize) -> Self {
        Self {
            first: Choice::new(cluster, "", 1.0),
            others: Vec::new(),
        }
    }

    /// By weight. `None` where there is no choice.
    pub fn weighted(choices: Vec<Choice>) -> Option<Self> {
        let mut choices = choices.into_iter();
        Some(Self {
            first: choices.next()?,
            others: choices.collect(),
        })
    }

    /// The only cluster, if there is only one.
    pub fn only(&self) -> Option<usize> {
        self.others.is_empty().then_some(self.first.cluster)
    }

    /// The cluster that says how users are recognised: the first one of the file.
    pub fn recognises(&self) -> usize {
        self.first.cluster
    }

    /// All choices, in the order of the file.
    pub fn choices(&self) -> impl Iterator<Item = &Choice> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// All clusters, in the order of the file.
    pub fn clusters(&self) -> impl Iterator<Item = usize> + '_ {
        self.choices().map(|choice| choice.cluster)
    }

    /// The cluster for a user: among those that can serve him, or among all where none can.
    pub fn choose(&self, cohort: Cohort, can_serve: impl Fn(usize) -> bool) -> usize {
        if self.others.is_empty() {
            return self.first.cluster;
        }
        let mut best: Option<(bool, f64, usize)> = None;
        for choice in self.choices() {
            let (serves, score) = (can_serve(choice.cluster), choice.score(cohort));
            if best.is_none_or(|(served, highest, _)| (serves, score) > (served, highest)) {
                best = Some((serves, score, choice.cluster));
            }
        }
        best.map_or(self.first.cluster, |(.., cluster)| cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAMES: [&str; 4] = ["blue", "green", "red", "grey"];

    fn split(weights: &[f64]) -> Split {
        let choices = weights.iter().zip(NAMES).enumerate();
        Split::weighted(choices.map(|(i, (w, name))| Choice::new(i, name, *w)).collect()).unwrap()
    }

    fn user(n: u64) -> Cohort {
        Cohort::of_key(&n.to_le_bytes())
    }

    #[test]
    fn users_are_split_by_weight() {
        let split = split(&[90.0, 9.0, 1.0]);
        let mut counts = [0u32; 3];
        (0..20_000).for_each(|n| counts[split.choose(user(n), |_| true)] += 1);
        for (count, expected) in counts.into_iter().zip([18_000.0, 1800.0, 200.0]) {
            // Four and a half standard deviations of a Poisson count.
            assert!(
                (f64::from(count) - expected).abs() < 4.5 * f64::sqrt(expected),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn where_nobody_can_serve_a_user_stays_where_he_was() {
        let split = split(&[3.0, 1.0]);
        assert!((0..1000).all(|n| split.choose(user(n), |_| false) == split.choose(user(n), |_| true)));
    }

    #[test]
    fn the_order_of_the_file_does_not_matter() {
        let (a, b) = (Choice::new(0, "a", 2.0), Choice::new(1, "b", 1.0));
        let one = Split::weighted(vec![a.clone(), b.clone()]).unwrap();
        let other = Split::weighted(vec![b, a]).unwrap();
        assert!((0..1000).all(|n| one.choose(user(n), |_| true) == other.choose(user(n), |_| true)));
    }

    proptest! {
        #[test]
        fn only_the_users_of_a_cluster_that_is_gone_move_and_none_moves_to_it(
            weights in prop::collection::vec(0.1..100.0f64, 2..=4), gone in 0..4usize, n: u64,
        ) {
            let split = split(&weights);
            let gone = gone % weights.len();
            let (before, after) = (split.choose(user(n), |_| true), split.choose(user(n), |c| c != gone));
            prop_assert_ne!(after, gone);
            prop_assert!(before == gone || before == after);
        }

        #[test]
        fn a_raised_weight_only_brings_users_in(w in 0.1..10.0f64, more in 0.1..10.0f64, n: u64) {
            let (before, after) = (split(&[5.0, w, 1.0]), split(&[5.0, w + more, 1.0]));
            let (before, after) = (before.choose(user(n), |_| true), after.choose(user(n), |_| true));
            prop_assert!(after == before || after == 1);
        }
    }
}
