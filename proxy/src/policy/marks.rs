//! What policies change in the answer to a request, whoever gives it.
//!
//! Made for one request, and applied after what its route changes: what protects users is not for a list of edits to undo.

use http::{HeaderName, HeaderValue};

use crate::edit::Head;

/// Changes of an answer's headers, in the order in which they are made.
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
