//! What is compared: each case is a protocol and a question, and has a name by which it is asked for.

use std::fmt;
use std::str::FromStr;

use crate::results::Protocol;

/// Bytes, written as people do: `64B`, `10KiB`, `1MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Largest body that the farm answers with.
const BODY_BYTES_MAX: u64 = 1 << 20;

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => write!(f, "{}MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 && bytes % (1 << 10) == 0 => write!(f, "{}KiB", bytes >> 10),
            bytes => write!(f, "{bytes}B"),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
        let unit = units
            .iter()
            .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
        let (number, bytes) = unit.unwrap_or((text, 1));
        let number: u64 = number
            .parse()
            .map_err(|_| format!("{text:?} is no size, as 64B, 10KiB or 1MiB"))?;
        match number.checked_mul(bytes) {
            Some(bytes) if bytes <= BODY_BYTES_MAX => Ok(Self(bytes)),
            _ => Err(format!(
                "{text} is more than the endpoints answer with: {}",
                Self(BODY_BYTES_MAX)
            )),
        }
    }
}

/// What requests of a closed loop carry. Only one of the two is asked about; the other is small, or not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bodies {
    /// GETs, and this much in each answer.
    Answered(Size),
    /// POSTs with this much, and the farm's small answer.
    Posted(Size),
}

impl Bodies {
    /// Bytes of the body that is asked about.
    pub fn bytes(self) -> u64 {
        let (Self::Answered(size) | Self::Posted(size)) = self;
        size.0
    }

    /// Bytes of each answer's body; the farm's default where `None`.
    pub fn answered(self) -> Option<u64> {
        matches!(self, Self::Answered(_)).then(|| self.bytes())
    }

    /// Bytes of each request's body; `None` where it has none.
    pub fn posted(self) -> Option<u64> {
        matches!(self, Self::Posted(_)).then(|| self.bytes())
    }
}

/// What is asked of each contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// CPU time per request, requests and bytes per second, with such bodies.
    Serving(Bodies),
    /// What it adds to the latency of asking an endpoint directly.
    Latency,
    /// New connections per second.
    Connections,
    /// Memory per idle connection.
    Idle,
}

/// One question about one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// How users speak.
    pub protocol: Protocol,
    /// What is asked.
    pub question: Question,
}

/// In the order in which they are measured.
pub const PROTOCOLS: [Protocol; 5] = [
    Protocol::Http1,
    Protocol::Https1,
    Protocol::H2c,
    Protocol::H2,
    Protocol::Tcp,
];

/// As it is called in results and in names of cases.
pub fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "http1",
        Protocol::Https1 => "https1",
        Protocol::H2c => "h2c",
        Protocol::H2 => "h2",
        Protocol::Tcp => "tcp",
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = protocol_name(self.protocol);
        match self.question {
            Question::Serving(Bodies::Answered(size)) => write!(f, "{protocol}/{size}"),
            Question::Serving(Bodies::Posted(size)) => write!(f, "{protocol}/post-{size}"),
            Question::Latency => write!(f, "{protocol}/latency"),
            Question::Connections => write!(f, "{protocol}/connections"),
            Question::Idle => write!(f, "{protocol}/idle"),
        }
    }
}

impl Case {
    /// Every case there is, with bodies of these sizes. A body of middle size is asked for over plain HTTP/1.1 only:
    /// the other protocols differ at the ends. What it costs to take a body from a user is asked over HTTP/1.1 only.
    pub fn all(bodies: &[Size]) -> Vec<Self> {
        let of = |protocol: Protocol| {
            let plain = protocol == Protocol::Http1;
            let ends =
                move |body: &&Size| plain || Some(*body) == bodies.first() || Some(*body) == bodies.last();
            let answered = bodies.iter().filter(ends).map(|size| Bodies::Answered(*size));
            let posted = bodies
                .iter()
                .filter(move |_| plain)
                .map(|size| Bodies::Posted(*size));
            let others: &[Question] = match protocol {
                Protocol::Http1 => &[Question::Latency, Question::Connections, Question::Idle],
                Protocol::Https1 => &[Question::Connections, Question::Idle],
                Protocol::Tcp => &[Question::Connections],
                Protocol::H2c | Protocol::H2 => &[],
            };
            answered
                .chain(posted)
                .map(Question::Serving)
                .chain(others.iter().copied())
                .map(move |question| Self { protocol, question })
        };
        PROTOCOLS.into_iter().flat_map(of).collect()
    }

    /// Whether the case is meant by `word`: its name, its protocol or its question.
    pub fn is_meant_by(&self, word: &str) -> bool {
        let name = self.to_string();
        name == word || name.split('/').any(|part| part == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (bytes, text) in [
            (0, "0B"),
            (64, "64B"),
            (1_500, "1500B"),
            (10 << 10, "10KiB"),
            (1 << 20, "1MiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
            assert_eq!(text.parse(), Ok(Size(bytes)));
        }
        assert_eq!("100".parse(), Ok(Size(100)));
        for wrong in ["", "x", "-1B", "2MiB", "99999999999999999999B", "1GiB"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn cases_have_names_of_their_own_and_are_found_by_their_parts() {
        let cases = Case::all(&[Size(64), Size(10 << 10), Size(1 << 20)]);
        let names: Vec<_> = cases.iter().map(Case::to_string).collect();
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert!(names.contains(&"http1/10KiB".to_owned()) && !names.contains(&"h2/10KiB".to_owned()));
        let meant = |word: &str| cases.iter().filter(|case| case.is_meant_by(word)).count();
        assert_eq!(
            (meant("http1/64B"), meant("idle"), meant("http1"), meant("64B")),
            (1, 2, 9, 5)
        );
        assert_eq!(meant("http"), 0);
    }
}
