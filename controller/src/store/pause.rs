//! How long to wait before another try: longer each time, and never for all at the same moment.

use std::time::Duration;

use rand::RngExt;

/// First wait, before chance shortens it.
const FIRST: Duration = Duration::from_millis(100);

/// Longest wait. Somebody may be waiting for a leader meanwhile.
const LONGEST: Duration = Duration::from_secs(5);

/// Doubling waits with jitter: each is between half of its length and the whole.
#[derive(Clone, Debug)]
pub(crate) struct Pause {
    next: Duration,
}

impl Default for Pause {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Pause {
    /// How long to wait now.
    pub(crate) fn length(&mut self, rng: &mut impl RngExt) -> Duration {
        let length = self.next.mul_f64(rng.random_range(0.5..=1.0));
        self.next = (self.next * 2).min(LONGEST);
        length
    }

    /// Waits.
    pub(crate) async fn wait(&mut self) {
        let length = self.length(&mut rand::rng());
        tokio::time::sleep(length).await;
    }

    /// It went well: the next wait is a short one again.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_differ() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut pause = Pause::default();
        let lengths: Vec<Duration> = (0..20).map(|_| pause.length(&mut rng)).collect();
        assert!(lengths[0] >= FIRST / 2 && lengths[0] <= FIRST);
        assert!(lengths.iter().all(|length| *length <= LONGEST));
        assert!(lengths[10..].iter().all(|length| *length >= LONGEST / 2));
        assert!(lengths[10..].windows(2).any(|pair| pair[0] != pair[1]));
        pause.reset();
        assert!(pause.length(&mut rng) <= FIRST);
    }
}
