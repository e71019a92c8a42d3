//! What is asked: method, path, user and body of each request, drawn from a seed.

use std::ops::RangeInclusive;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Header that says who asks; the proxy's cohorts are told apart by it.
pub const USER_HEADER: &str = "x-user";

/// Largest body of a request: all bodies are cut from one filler of this size.
pub const BODY_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// The composition of the load.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// The method of what is not made a POST by `post_share`.
    pub method: String,
    /// The server as requests name it, in `host` and `:authority`.
    pub authority: String,
    /// Headers of every request, beside those of the load's own.
    pub headers: Vec<(String, String)>,
    /// Users, all equally active, named `u0000` and so on in [`USER_HEADER`]; that header is left out for 0.
    pub users: u32,
    /// Part of the requests that are POSTs, 0 to 1.
    pub post_share: f64,
    /// Bytes of the body of each request that has one; all sizes are equally likely.
    pub body_bytes: RangeInclusive<u32>,
    /// Paths and their relative weights; at most 256, at least one with a weight above 0.
    pub paths: Vec<(String, f64)>,
}

impl Default for Mix {
    /// 10,000 users, 10 % POST with a small body, five paths of which the first is the most popular.
    fn default() -> Self {
        let paths = [("/a", 0.4), ("/b", 0.25), ("/c", 0.15), ("/d", 0.1), ("/e", 0.1)];
        let paths = paths.map(|(path, weight)| (path.to_owned(), weight)).to_vec();
        Self {
            method: "GET".to_owned(),
            authority: "shop.example".to_owned(),
            headers: Vec::new(),
            users: 10_000,
            post_share: 0.1,
            body_bytes: 14..=14,
            paths,
        }
    }
}

/// Whether requests of this method carry a body.
pub fn has_body(method: &str) -> bool {
    matches!(method, "POST" | "PUT" | "PATCH")
}

/// Whether a request of this method may have an effect.
pub fn writes(method: &str) -> bool {
    !matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE")
}

/// One request to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// POST, otherwise the method of the mix.
    pub post: bool,
    /// Index into [`Mix::paths`].
    pub path: u8,
    /// Number of the user.
    pub user: u32,
    /// Bytes of the body; 0 where there is none.
    pub body_bytes: u32,
}

/// Draws requests from a [`Mix`].
#[derive(Debug)]
pub struct Draws {
    users: u32,
    post_share: f64,
    /// The method of the mix has a body, too.
    all_bodies: bool,
    body_bytes: RangeInclusive<u32>,
    /// Sums of the weights up to and including each path.
    cumulative: Vec<f64>,
    rng: StdRng,
}

impl Draws {
    /// Draws from `mix`; the same seed gives the same requests.
    pub fn new(mix: &Mix, seed: u64) -> Self {
        let sums = mix.paths.iter().scan(0.0, |sum, (_, weight)| {
            *sum += weight.max(0.0);
            Some(*sum)
        });
        // Apart from the schedule's generator, which may have the same seed.
        let rng = StdRng::seed_from_u64(seed ^ 0x006d_6978);
        Self {
            users: mix.users.max(1),
            post_share: mix.post_share,
            all_bodies: has_body(&mix.method),
            body_bytes: mix.body_bytes.clone(),
            cumulative: sums.collect(),
            rng,
        }
    }

    /// The next request.
    pub fn draw(&mut self) -> Draw {
        let at = self.rng.random::<f64>() * self.cumulative.last().copied().unwrap_or(0.0);
        let path = self.cumulative.partition_point(|sum| *sum <= at);
        let post = self.rng.random::<f64>() < self.post_share;
        let user = self.rng.random_range(0..self.users);
        let body_bytes = match (post || self.all_bodies, self.body_bytes.start()) {
            (false, _) => 0,
            (true, least) if least == self.body_bytes.end() => *least,
            (true, _) => self.rng.random_range(self.body_bytes.clone()),
        };
        Draw {
            post,
            path: u8::try_from(path).unwrap_or(u8::MAX),
            user,
            body_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_follow_the_mix() {
        let mut draws = Draws::new(&Mix::default(), 1);
        let drawn: Vec<_> = (0..100_000).map(|_| draws.draw()).collect();
        let posts = drawn.iter().filter(|draw| draw.post).count();
        let first = drawn.iter().filter(|draw| draw.path == 0).count();
        assert!((9_600..10_400).contains(&posts), "{posts}");
        assert!((39_200..40_800).contains(&first), "{first}");
        assert!(drawn.iter().all(|draw| draw.path < 5 && draw.user < 10_000));
        assert!(
            drawn
                .iter()
                .all(|draw| draw.body_bytes == if draw.post { 14 } else { 0 })
        );
    }

    #[test]
    fn bodies_have_every_size_between_their_bounds() {
        let mix = Mix {
            method: "PUT".into(),
            body_bytes: 10..=13,
            ..Mix::default()
        };
        let mut draws = Draws::new(&mix, 1);
        let mut drawn = [0; 14];
        for _ in 0..10_000 {
            drawn[usize::try_from(draws.draw().body_bytes).unwrap()] += 1;
        }
        assert!(drawn[..10].iter().all(|count| *count == 0));
        assert!(
            drawn[10..].iter().all(|count| (2_300..2_700).contains(count)),
            "{drawn:?}"
        );
    }
}
