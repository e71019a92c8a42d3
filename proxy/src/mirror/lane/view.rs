//! What an operator is shown of a comparison.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::mirror::noise::Verdict;

/// Requests by whether each side failed. A side fails by an answer that the endpoint would be charged for, or by none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pairs {
    /// Neither.
    pub both_good: u64,
    /// The target only.
    pub target_bad: u64,
    /// The primary only.
    pub primary_bad: u64,
    /// Both.
    pub both_bad: u64,
}

/// One thing of either side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sides<T> {
    /// The primary's.
    pub primary: T,
    /// The target's.
    pub target: T,
}

/// Microseconds to the first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// Half is faster.
    pub p50_us: u64,
    /// Nine of ten are faster.
    pub p90_us: u64,
    /// 99 of a hundred are faster.
    pub p99_us: u64,
}

/// Everything that is known of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct LaneView {
    /// The cluster that serves the users.
    pub cluster: String,
    /// The primary, where the target is its shadow.
    pub primary: Option<String>,
    /// The shadow, or the other cluster.
    pub target: String,
    /// Copies that ended, controls included.
    pub copies: u64,
    /// How they ended.
    pub results: BTreeMap<&'static str, u64>,
    /// Who failed, request by request.
    pub pairs: Pairs,
    /// Where both answered.
    pub latency: Sides<Quantiles>,
    /// How often a side took a quarter longer than the other.
    pub slower: Sides<u64>,
    /// Pairs of answers that were compared.
    pub compared: u64,
    /// Pairs of answers of primaries that were compared, to learn what differs by itself.
    pub controls: u64,
    /// Fields that differed, the worst first.
    pub fields: Vec<FieldView>,
}

/// A field that differed.
#[derive(Clone, Debug, Serialize)]
pub struct FieldView {
    /// Its name.
    pub field: String,
    /// What it means.
    pub verdict: Verdict,
    /// Of the comparisons with the target, in how many it differed.
    pub differed: u64,
    /// Of the comparisons among primaries.
    pub differed_among_primaries: u64,
    /// Path of a request where it did; what may be data stands as `{}`.
    pub example: String,
}

/// Everything that the mirror has seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct View {
    /// Copies under way.
    pub under_way: usize,
    /// Bytes that they hold.
    pub held_bytes: usize,
    /// All comparisons, in the order of their names.
    pub lanes: Vec<LaneView>,
}
