//! Whose turn it is: a user's fixed place in the order in which users move to a shadow.
//!
//! A user key is hashed once per request (xxh3, 64 bits). Each episode of shifting has its own salt, and the salt and
//! the hash are mixed (the finaliser of splitmix64) into a *position*: a user lies on the shadow's side iff the position
//! lies below the share's threshold. So the set of shifted users only grows while the share grows and only shrinks while
//! it shrinks (nested), a user changes side at most once per ramp, and another episode tries its canary on other users.
//! Drawing a random number per request instead would bounce every user between the two sides, and break sessions.
//!
//! Segments let some users go first: the shift fills the first segment, then the second, and so on. Without a key the
//! caller hashes the connection; an empty key is a key like any other.
// Concept: endpoint-shift-groups

use foreshade_contract::Share;
use xxhash_rust::xxh3::xxh3_64;

/// A user's hash, the same for all clusters and all time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cohort(u64);

impl Cohort {
    /// The cohort of a user key: a cookie, a header, a client address.
    pub fn of_key(key: &[u8]) -> Self {
        Self(xxh3_64(key))
    }

    /// The cohort of a key that is a good 64-bit hash or a random number already.
    pub const fn of_hash(hash: u64) -> Self {
        Self(hash)
    }

    /// The hash.
    pub const fn hash(self) -> u64 {
        self.0
    }

    /// The place in the order of the episode with this salt: 0 moves first, `u32::MAX - 1` last.
    ///
    /// `u32::MAX` is left out, so that the largest threshold means everybody.
    pub const fn position(self, salt: u64) -> u32 {
        let mixed = mix(self.0 ^ salt);
        let position = (mixed >> 32) as u32;
        if position == u32::MAX {
            u32::MAX - 1
        } else {
            position
        }
    }
}

/// The threshold that so large a share of all positions lies below: 0 for nobody, `u32::MAX` for everybody.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates at both ends, which is what is meant"
)]
pub fn threshold(share: Share) -> u32 {
    (share.value() * 4_294_967_296.0).round() as u32
}

/// The share of all positions that lies below a threshold: what [`threshold`] made it of, to a 2^32nd.
pub fn share_below(limit: u32) -> Share {
    match limit {
        u32::MAX => Share::ONE,
        limit => Share::clamped(f64::from(limit) / 4_294_967_296.0),
    }
}

/// The share of one segment, when `share` of all users have moved and the segments move in order.
///
/// `parts` are the segments' shares of all users; `segment` is an index into them, or `None` for whoever belongs to none
/// and so moves last. Parts beyond a sum of 1 are cut off; a segment without width moves when its turn has come.
pub fn segment_share(share: Share, parts: &[Share], segment: Option<usize>) -> Share {
    let before = parts.len().min(segment.unwrap_or(usize::MAX));
    let start: f64 = parts
        .iter()
        .take(before)
        .map(|part| part.value())
        .sum::<f64>()
        .min(1.0);
    let end = match segment.and_then(|index| parts.get(index)) {
        Some(part) => (start + part.value()).min(1.0),
        None => 1.0,
    };
    let moved = share.value();
    if end - start > f64::EPSILON {
        Share::clamped((moved - start) / (end - start))
    } else if moved >= end && moved > 0.0 {
        Share::ONE
    } else {
        Share::ZERO
    }
}

/// The finaliser of splitmix64: every bit of the input moves half of the output's.
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(value: f64) -> Share {
        Share::clamped(value)
    }

    proptest! {
        // Concept: endpoint-shift-groups (invariant 8)
        #[test]
        fn the_shifted_are_nested_and_a_user_changes_side_once_per_ramp(
            hash: u64,
            salt: u64,
            mut ramp in prop::collection::vec(0.0..=1.0f64, 2..40),
            segment in prop::option::of(0..3usize),
        ) {
            ramp.sort_by(f64::total_cmp);
            let parts = [share(0.1), share(0.0), share(0.3)];
            let position = Cohort::of_hash(hash).position(salt);
            let sides: Vec<bool> = ramp
                .iter()
                .map(|s| position < threshold(segment_share(share(*s), &parts, segment)))
                .collect();
            prop_assert!(sides.is_sorted(), "{sides:?}");
        }

        // Invariant 9
        #[test]
        fn the_observed_share_is_the_share(salt: u64, s in 0.0..=1.0f64, prefix: u32) {
            let keys = 4000u32;
            let limit = threshold(share(s));
            let shifted = (0..keys)
                .filter(|n| Cohort::of_key(format!("{prefix}-{n}").as_bytes()).position(salt) < limit)
                .count();
            let error = (shifted as f64 / f64::from(keys) - s).abs();
            // 4 sigma holds but for 6 in 100,000; one key of slack for shares next to 0 and 1.
            prop_assert!(error <= 4.5 * (s * (1.0 - s) / f64::from(keys)).sqrt() + 1.0 / f64::from(keys), "{error}");
        }

        #[test]
        fn segments_add_up_to_the_share(s in 0.0..=1.0f64, p in 0.0..0.5f64, q in 0.0..0.5f64) {
            let parts = [share(p), share(q)];
            let moved = p * segment_share(share(s), &parts, Some(0)).value()
                + q * segment_share(share(s), &parts, Some(1)).value()
                + (1.0 - p - q) * segment_share(share(s), &parts, None).value();
            prop_assert!((moved - s).abs() < 1e-9);
        }
    }

    #[test]
    fn a_threshold_gives_its_share_back() {
        for value in [0.0, 1e-9, 0.05, 0.5, 0.999_999, 1.0] {
            let back = share_below(threshold(share(value))).value();
            assert!((back - value).abs() < 1e-9, "{value} {back}");
            assert_eq!(
                threshold(share_below(threshold(share(value)))),
                threshold(share(value))
            );
        }
    }

    #[test]
    fn nobody_and_everybody_are_exact() {
        for hash in [0, 1, u64::MAX, 0x9e37_79b9_7f4a_7c15] {
            let position = Cohort::of_hash(hash).position(7);
            assert!(position >= threshold(Share::ZERO));
            assert!(position < threshold(Share::ONE));
        }
    }

    #[test]
    fn the_next_episode_tries_other_users() {
        let canary = threshold(share(0.05));
        let both = (0..10_000u32)
            .map(|n| Cohort::of_key(&n.to_le_bytes()))
            .filter(|c| c.position(1) < canary && c.position(2) < canary)
            .count();
        assert!((5..60).contains(&both), "{both} of 10,000, 25 expected");
    }
}
