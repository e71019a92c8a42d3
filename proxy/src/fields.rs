//! The header lines of a request, the same whichever engine read them: a map of pingora's, or the lines as they came.
//!
//! The policy asks for a few names per request. A map answers each question by hashing, and costs an allocation and a
//! hash per line to make; the relay never makes one: a dozen lines are compared faster than they are filed.

use http::{HeaderMap, HeaderName};

/// Where a header line stands in the bytes of its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// First byte of the name.
    pub name: u32,
    /// The byte behind the name.
    pub name_end: u32,
    /// First byte of the value, which has no spaces around it.
    pub value: u32,
    /// The byte behind the value.
    pub value_end: u32,
}

/// A head of which every line has been found.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a> {
    /// The bytes of the head.
    pub bytes: &'a [u8],
    /// Its lines, in the order in which they came.
    pub lines: &'a [Line],
}

/// All headers of a request.
#[derive(Clone, Copy, Debug)]
pub enum Fields<'a> {
    /// Read by pingora.
    Map(&'a HeaderMap),
    /// Read by the relay.
    Lines(Lines<'a>),
}

/// Writes one line of a head.
#[inline]
pub fn write_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

impl Line {
    /// The name, in the letters in which it came.
    pub fn name_in<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes
            .get(self.name as usize..self.name_end as usize)
            .unwrap_or_default()
    }

    /// The value.
    pub fn value_in<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes
            .get(self.value as usize..self.value_end as usize)
            .unwrap_or_default()
    }

    /// Whether it is a header of this name, in whatever letters.
    pub fn is_named(&self, bytes: &[u8], name: &[u8]) -> bool {
        // Lengths first: they tell most names apart.
        (self.name_end - self.name) as usize == name.len() && self.name_in(bytes).eq_ignore_ascii_case(name)
    }
}

impl<'a> Lines<'a> {
    /// The values of a header, in the order in which they came.
    pub fn all(self, name: &[u8]) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        let bytes = self.bytes;
        self.lines
            .iter()
            .filter(move |line| line.is_named(bytes, name))
            .map(move |line| line.value_in(bytes))
    }
}

impl<'a> Fields<'a> {
    /// The first value of a header.
    pub fn get(self, name: &HeaderName) -> Option<&'a [u8]> {
        match self {
            Self::Map(map) => map.get(name).map(|value| value.as_bytes()),
            Self::Lines(lines) => lines.all(name.as_str().as_bytes()).next(),
        }
    }

    /// All values of a header, in the order in which they came.
    pub fn all(self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        let (map, lines) = match self {
            Self::Map(map) => (Some(map.get_all(name)), None),
            Self::Lines(lines) => (None, Some(lines.all(name.as_str().as_bytes()))),
        };
        let map = map
            .into_iter()
            .flat_map(|values| values.into_iter().map(|value| value.as_bytes()));
        map.chain(lines.into_iter().flatten())
    }

    /// Whether there is such a header.
    pub fn contains(self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// The value of a header that stands there once.
    pub fn only(self, name: &HeaderName) -> Option<&'a [u8]> {
        let mut values = self.all(name);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }
}

impl<'a> From<&'a HeaderMap> for Fields<'a> {
    fn from(map: &'a HeaderMap) -> Self {
        Self::Map(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{COOKIE, HOST};

    const HEAD: &[u8] = b"hOST: a\r\nCookie: 1\r\ncookie: 2\r\n";

    fn lines() -> Vec<Line> {
        let at = |name, name_end, value, value_end| Line {
            name,
            name_end,
            value,
            value_end,
        };
        vec![at(0, 4, 6, 7), at(9, 15, 17, 18), at(20, 26, 28, 29)]
    }

    #[test]
    fn a_map_and_lines_give_the_same_answers() {
        let lines = lines();
        let mut map = HeaderMap::new();
        map.append(HOST, "a".parse().unwrap());
        map.append(COOKIE, "1".parse().unwrap());
        map.append(COOKIE, "2".parse().unwrap());
        let lines = Lines {
            bytes: HEAD,
            lines: &lines,
        };
        for fields in [Fields::from(&map), Fields::Lines(lines)] {
            assert_eq!(fields.get(&HOST), Some(&b"a"[..]));
            assert_eq!(fields.all(&COOKIE).collect::<Vec<_>>(), [b"1", b"2"]);
            assert_eq!(fields.all(&COOKIE).next_back(), Some(&b"2"[..]));
            assert_eq!(
                (fields.only(&HOST), fields.only(&COOKIE)),
                (Some(&b"a"[..]), None)
            );
            assert!(fields.contains(&COOKIE) && !fields.contains(&http::header::ACCEPT));
        }
    }
}
