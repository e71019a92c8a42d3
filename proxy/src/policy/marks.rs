//! What policies change in a request before an endpoint gets it, and in its answer, whoever gives it.
//!
//! Made for one request, and applied after what its route changes: what protects users is not for a list of edits to undo.

use http::{HeaderName, HeaderValue};

use crate::edit::Head;
use crate::fields::Fields;

/// Changes of headers, in the order in which they are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(Vec<Mark>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Mark {
    Remove(HeaderName),
    Set(HeaderName, HeaderValue),
    Add(HeaderName, HeaderValue),
}

impl Marks {
    /// Takes a header out.
    pub fn remove(&mut self, name: HeaderName) {
        self.0.push(Mark::Remove(name));
    }

    /// A header has this value and no other.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push(Mark::Set(name, value));
    }

    /// A header has this value, too.
    pub fn add(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push(Mark::Add(name, value));
    }

    /// A header has this value, or none, and nothing of what came: neither under its name nor under one that some endpoints
    /// take for it, with underscores for dashes.
    pub fn replace(&mut self, name: &HeaderName, came: Fields<'_>, value: Option<HeaderValue>) {
        // Whoever reads lines hands such a request over.
        if let Fields::Map(map) = came {
            let alike = map.keys().filter(|other| looks_like(other, name));
            alike.for_each(|other| self.remove(other.clone()));
        }
        match value {
            Some(value) => self.set(name.clone(), value),
            None => self.remove(name.clone()),
        }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes the changes.
    pub fn apply(&self, head: &mut impl Head) {
        for mark in &self.0 {
            match mark {
                Mark::Remove(name) => head.remove(name),
                Mark::Set(name, value) => head.set(name, value.clone()),
                Mark::Add(name, value) => head.add(name, value.clone()),
            }
        }
    }
}

/// Whether a name is another but for dashes and underscores.
fn looks_like(other: &HeaderName, name: &HeaderName) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte };
    let (other, name) = (other.as_str().bytes(), name.as_str().bytes());
    other.len() == name.len() && other.zip(name).all(|(a, b)| plain(a) == plain(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use http::header::{ORIGIN, VARY};

    #[test]
    fn marks_are_made_in_their_order() {
        let value = HeaderValue::from_static;
        let mut marks = Marks::default();
        assert!(marks.is_empty());
        marks.remove(ORIGIN);
        marks.set(ORIGIN, value("c"));
        marks.add(VARY, value("origin"));
        let mut head = HeaderMap::new();
        for (name, text) in [(ORIGIN, "a"), (ORIGIN, "b"), (VARY, "accept")] {
            head.append(name, value(text));
        }
        marks.apply(&mut head);
        assert_eq!(head.get_all(ORIGIN).iter().collect::<Vec<_>>(), ["c"]);
        assert_eq!(
            head.get_all(VARY).iter().collect::<Vec<_>>(),
            ["accept", "origin"]
        );
    }
}
