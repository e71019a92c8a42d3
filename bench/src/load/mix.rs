//! What is asked: method, path and user of each request, drawn from a seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Header that says who asks; the proxy's cohorts are told apart by it.
pub const USER_HEADER: &str = "x-user";

/// The composition of the load.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// Users, all equally active, named `u0000` and so on.
    pub users: u32,
    /// Part of the requests that are POSTs with a small body, 0 to 1.
    pub post_share: f64,
    /// Paths and their relative weights; at most 256, at least one with a weight above 0.
    pub paths: Vec<(String, f64)>,
}

impl Default for Mix {
    /// 10,000 users, 10 % POST, five paths of which the first is the most popular.
    fn default() -> Self {
        let paths = [("/a", 0.4), ("/b", 0.25), ("/c", 0.15), ("/d", 0.1), ("/e", 0.1)];
        let paths = paths.map(|(path, weight)| (path.to_owned(), weight)).to_vec();
        Self {
            users: 10_000,
            post_share: 0.1,
            paths,
        }
    }
}

/// One request to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// POST, otherwise GET.
    pub post: bool,
    /// Index into [`Mix::paths`].
    pub path: u8,
    /// Number of the user.
    pub user: u32,
}

/// Draws requests from a [`Mix`].
#[derive(Debug)]
pub struct Draws {
    users: u32,
    post_share: f64,
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
            cumulative: sums.collect(),
            rng,
        }
    }

    /// The next request.
    pub fn draw(&mut self) -> Draw {
        let at = self.rng.random::<f64>() * self.cumulative.last().copied().unwrap_or(0.0);
        let path = self.cumulative.partition_point(|sum| *sum <= at);
        Draw {
            post: self.rng.random::<f64>() < self.post_share,
            path: u8::try_from(path).unwrap_or(u8::MAX),
            user: self.rng.random_range(0..self.users),
        }
    }
}

/// Writes the bytes of a request into `out`, replacing what it held.
pub fn encode(out: &mut Vec<u8>, draw: Draw, path: &str, number: u64) {
    use std::io::Write;
    out.clear();
    let (method, body) = if draw.post {
        ("POST", "{\"quantity\":1}")
    } else {
        ("GET", "")
    };
    // Writing to a vector cannot fail.
    let _ = write!(
        out,
        "{method} {path} HTTP/1.1\r\nhost: shop.example\r\n{USER_HEADER}: u{:04}\r\n{}: {number}\r\n",
        draw.user,
        crate::wire::NUMBER_HEADER,
    );
    if draw.post {
        let _ = write!(out, "content-length: {}\r\n", body.len());
    }
    let _ = write!(out, "\r\n{body}");
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
    }

    #[test]
    fn what_is_encoded_is_what_an_endpoint_reads() {
        let mut bytes = Vec::new();
        encode(
            &mut bytes,
            Draw {
                post: true,
                path: 0,
                user: 7,
            },
            "/a",
            99,
        );
        let request = crate::wire::parse_request(&bytes).unwrap().unwrap();
        assert_eq!(
            (request.number, request.post, request.body.end),
            (Some(99), true, bytes.len())
        );
        assert_eq!(&bytes[request.path], b"/a");
    }
}
