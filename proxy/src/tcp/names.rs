//! Who serves which server name: the most specific entry wins, an exact name before one with a wildcard.
//!
//! A wildcard stands for one label, as in certificates (RFC 9525 section 6.3): whoever is served by `*.shop.example` shows
//! a certificate that says no more.

use std::collections::HashMap;

use crate::framing::Refusal;

/// The table of one listener. Asked once per connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerNames {
    /// Clusters by whole name.
    exact: HashMap<String, usize>,
    /// Clusters by what follows the first label.
    under: HashMap<String, usize>,
    /// The cluster of everybody else.
    other: Option<usize>,
}

impl ServerNames {
    /// A table that sends everybody to `other`, or nobody anywhere.
    pub fn new(other: Option<usize>) -> Self {
        Self {
            other,
            ..Self::default()
        }
    }

    /// Adds a name, maybe with `*.` before it. The cluster that has it already, if one has.
    pub fn add(&mut self, name: &str, cluster: usize) -> Option<usize> {
        match name.strip_prefix("*.") {
            Some(domain) => self.under.insert(domain.to_owned(), cluster),
            None => self.exact.insert(name.to_owned(), cluster),
        }
    }

    /// The cluster that serves a name, which is in lower case.
    ///
    /// # Errors
    /// Where none does.
    pub fn cluster(&self, name: Option<&str>) -> Result<usize, Refusal> {
        let named = name.and_then(|name| {
            let under = || self.under.get(name.split_once('.')?.1);
            self.exact.get(name).or_else(under).copied()
        });
        let refusal = match name {
            Some(_) => Refusal::NameUnknown,
            None => Refusal::NameMissing,
        };
        named.or(self.other).ok_or(refusal)
    }

    /// All clusters that serve somebody.
    pub fn clusters(&self) -> impl Iterator<Item = usize> {
        let named = self.exact.values().chain(self.under.values());
        named.copied().chain(self.other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_entry_wins_and_a_wildcard_is_one_label() {
        let mut names = ServerNames::new(None);
        for (name, cluster) in [("shop.example", 0), ("*.shop.example", 1), ("a.shop.example", 2)] {
            assert_eq!(names.add(name, cluster), None);
        }
        assert_eq!(names.add("*.shop.example", 1), Some(1));
        for (name, cluster) in [
            (Some("shop.example"), Ok(0)),
            (Some("b.shop.example"), Ok(1)),
            (Some("a.shop.example"), Ok(2)),
            (Some("c.b.shop.example"), Err(Refusal::NameUnknown)),
            (Some("example"), Err(Refusal::NameUnknown)),
            (None, Err(Refusal::NameMissing)),
        ] {
            assert_eq!(names.cluster(name), cluster, "{name:?}");
        }
        names.other = Some(3);
        assert_eq!((names.cluster(None), names.cluster(Some("x"))), (Ok(3), Ok(3)));
    }
}
