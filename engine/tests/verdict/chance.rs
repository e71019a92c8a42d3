//! Seeded chance that is fast in an unoptimised build: SplitMix64, and binomial counts made of its bits.

/// Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn seeded(seed: u64) -> Self {
        // Neighbouring seeds would otherwise begin with neighbouring states.
        let mut chance = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D);
        chance.bits();
        chance
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// True with this probability.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        ((self.bits() >> 11) as f64) < probability * (1u64 << 53) as f64
    }

    /// How many of `trials` happen, each with this probability. Exact to 53 bits: each trial's uniform number is
    /// compared with the probability bit by bit, from the top, all trials that are still tied at once. Half of them
    /// leave at each bit.
    pub(crate) fn count(&mut self, trials: u64, probability: f64) -> u64 {
        if probability >= 1.0 {
            return trials;
        }
        let mut digits = (probability.max(0.0) * (1u64 << 53) as f64) as u64;
        let (mut tied, mut happened, mut bit) = (trials, 0, 1u64 << 52);
        while tied > 0 && digits != 0 {
            let zeros = self.heads(tied);
            if digits & bit == 0 {
                tied = zeros;
            } else {
                happened += zeros;
                tied -= zeros;
                digits &= !bit;
            }
            bit >>= 1;
        }
        happened
    }

    fn heads(&mut self, mut coins: u64) -> u64 {
        let mut heads = 0;
        while coins >= 64 {
            heads += u64::from(self.bits().count_ones());
            coins -= 64;
        }
        if coins > 0 {
            heads += u64::from((self.bits() >> (64 - coins)).count_ones());
        }
        heads
    }
}

#[test]
fn counts_have_their_mean_and_spread() {
    let mut chance = Chance::seeded(1);
    for (trials, probability) in [
        (1000, 0.002),
        (50, 0.5),
        (950, 0.9),
        (7, 0.3),
        (1000, 1.0),
        (1000, 0.0),
    ] {
        let draws: Vec<f64> = (0..20_000)
            .map(|_| chance.count(trials, probability) as f64)
            .collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let spread = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        let expected = trials as f64 * probability;
        assert!(
            (mean - expected).abs() < 0.02 * expected.max(1.0),
            "{mean} {expected}"
        );
        let expected = expected * (1.0 - probability);
        assert!(
            (spread - expected).abs() < 0.06 * expected.max(0.1),
            "{spread} {expected}"
        );
    }
}
