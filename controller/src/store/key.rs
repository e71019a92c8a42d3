//! Keys, values, revisions and leases: what a request is made of, checked where it is made.

use std::fmt;
use std::num::NonZeroI64;

use bytes::Bytes;

use super::error::Invalid;
use super::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// A key: 1 to [`KEY_BYTES_MAX`] bytes, of any kind; ours are paths.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

/// A value: at most [`VALUE_BYTES_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Value(Bytes);

/// Keys from a first one (inclusive) to a last one (exclusive), in the order of their bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyRange {
    start: Bytes,
    /// Nothing: no end.
    end: Option<Bytes>,
}

/// A point in the history of a store. The empty store is at 1, the first write makes 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

/// What keys are attached to a lease by. Never zero, which etcd takes for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(NonZeroI64);

/// A key as it is at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// Its value.
    pub value: Value,
    /// The revision at which it came into being.
    pub created: Revision,
    /// The revision at which it was written last.
    pub modified: Revision,
    /// How often it was written since it came into being, from 1.
    pub version: u64,
    /// The lease with which it goes.
    pub lease: Option<LeaseId>,
}

impl Key {
    /// # Errors
    /// When it is empty, or longer than [`KEY_BYTES_MAX`].
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, Invalid> {
        let bytes = bytes.into();
        match bytes.len() {
            0 => Err(Invalid::EmptyKey),
            n if n > KEY_BYTES_MAX => Err(Invalid::KeyTooLong(n)),
            _ => Ok(Self(bytes)),
        }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its bytes, shared.
    pub fn bytes(&self) -> Bytes {
        self.0.clone()
    }
}

impl TryFrom<&str> for Key {
    type Error = Invalid;

    fn try_from(text: &str) -> Result<Self, Invalid> {
        Self::new(text.as_bytes().to_vec())
    }
}

impl Value {
    /// # Errors
    /// When it is longer than [`VALUE_BYTES_MAX`].
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, Invalid> {
        let bytes = bytes.into();
        if bytes.len() > VALUE_BYTES_MAX {
            return Err(Invalid::ValueTooLong(bytes.len()));
        }
        Ok(Self(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its bytes, shared.
    pub fn bytes(&self) -> Bytes {
        self.0.clone()
    }
}

impl KeyRange {
    /// This key alone.
    pub fn key(key: &Key) -> Self {
        let mut end = key.as_bytes().to_vec();
        end.push(0);
        Self {
            start: key.bytes(),
            end: Some(end.into()),
        }
    }

    /// Every key that begins so.
    pub fn prefix(prefix: &Key) -> Self {
        // The first key after them: the last byte that can grow, grown, and nothing behind it.
        let mut end = prefix.as_bytes().to_vec();
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        Self {
            start: prefix.bytes(),
            end: (!end.is_empty()).then(|| end.into()),
        }
    }

    /// From `start` to before `end`. Empty when `end` is not after `start`: that is refused.
    ///
    /// # Errors
    /// [`Invalid::EmptyRange`].
    pub fn between(start: &Key, end: &Key) -> Result<Self, Invalid> {
        if start >= end {
            return Err(Invalid::EmptyRange);
        }
        Ok(Self {
            start: start.bytes(),
            end: Some(end.bytes()),
        })
    }

    /// What is left of this range behind `key`; for the next page of a long answer.
    pub fn after(&self, key: &Key) -> Option<Self> {
        let mut start = key.as_bytes().to_vec();
        start.push(0);
        let rest = Self {
            start: start.into(),
            end: self.end.clone(),
        };
        rest.end
            .as_ref()
            .is_none_or(|end| rest.start < *end)
            .then_some(rest)
    }

    /// Every key.
    pub fn all() -> Self {
        Self {
            start: Bytes::new(),
            end: None,
        }
    }

    /// Whether the key is one of them.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_ref() <= key && self.end.as_ref().is_none_or(|end| key < end.as_ref())
    }

    /// Whether a key can be in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let before = |end: &Option<Bytes>, start: &Bytes| end.as_ref().is_some_and(|end| end <= start);
        !before(&self.end, &other.start) && !before(&other.end, &self.start)
    }

    /// Where it begins; empty for the very first key.
    pub fn start(&self) -> &Bytes {
        &self.start
    }

    /// Before what it ends, if anywhere.
    pub fn end(&self) -> Option<&Bytes> {
        self.end.as_ref()
    }

    /// Bytes that it takes in a request.
    pub(super) fn len(&self) -> usize {
        self.start.len() + self.end.as_ref().map_or(0, Bytes::len)
    }
}

impl Revision {
    /// Before everything: the `created` of a key that is not there.
    pub const NONE: Self = Self(0);

    /// The empty store.
    pub const FIRST: Self = Self(1);

    /// The revision with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl LeaseId {
    /// Nothing for zero.
    pub const fn new(id: i64) -> Option<Self> {
        match NonZeroI64::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// Its number.
    pub const fn number(self) -> i64 {
        self.0.get()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A value of half a megabyte in a message helps nobody.
        const SHOWN_MAX: usize = 64;
        let shown = self.0.get(..self.0.len().min(SHOWN_MAX)).unwrap_or_default();
        write!(f, "\"{}\"", shown.escape_ascii())?;
        if self.0.len() > SHOWN_MAX {
            write!(f, "... ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

impl fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[\"{}\", ", self.start.escape_ascii())?;
        match &self.end {
            Some(end) => write!(f, "\"{}\")", end.escape_ascii()),
            None => f.write_str("end)"),
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::try_from(text).unwrap()
    }

    #[test]
    fn a_prefix_has_what_begins_so_and_nothing_else() {
        let range = KeyRange::prefix(&key("a/b"));
        for (inside, text) in [
            (true, "a/b"),
            (true, "a/b/c"),
            (false, "a/c"),
            (false, "a/"),
            (false, "b"),
        ] {
            assert_eq!(range.contains(text.as_bytes()), inside, "{text}");
        }
        let last = KeyRange::prefix(&Key::new(vec![7, 255, 255]).unwrap());
        assert!(last.contains(&[7, 255, 255, 255]) && !last.contains(&[8]));
        let open = KeyRange::prefix(&Key::new(vec![255]).unwrap());
        assert!(open.contains(&[255, 255]) && open.end().is_none());
    }

    #[test]
    fn ranges_overlap_where_a_key_can_be_in_both() {
        let between = |a: &str, b: &str| KeyRange::between(&key(a), &key(b)).unwrap();
        assert!(between("a", "c").overlaps(&between("b", "d")));
        assert!(!between("a", "b").overlaps(&between("b", "d")));
        assert!(KeyRange::all().overlaps(&KeyRange::key(&key("x"))));
        assert!(!KeyRange::key(&key("x")).overlaps(&KeyRange::key(&key("y"))));
        assert_eq!(KeyRange::between(&key("b"), &key("b")), Err(Invalid::EmptyRange));
    }

    #[test]
    fn the_next_page_begins_behind_the_last_key() {
        let range = KeyRange::between(&key("a"), &key("c")).unwrap();
        let rest = range.after(&key("b")).unwrap();
        assert!(
            !rest.contains(b"b") && rest.contains(b"b\0") && rest.contains(b"ba") && !rest.contains(b"c")
        );
        assert_eq!(KeyRange::key(&key("a")).after(&key("a")), None);
    }

    #[test]
    fn what_is_too_long_is_refused() {
        assert_eq!(Key::new(vec![]), Err(Invalid::EmptyKey));
        assert_eq!(
            Key::new(vec![1; KEY_BYTES_MAX + 1]),
            Err(Invalid::KeyTooLong(KEY_BYTES_MAX + 1))
        );
        assert_eq!(
            Value::new(vec![1; VALUE_BYTES_MAX + 1]),
            Err(Invalid::ValueTooLong(VALUE_BYTES_MAX + 1))
        );
        assert!(Key::new(vec![1; KEY_BYTES_MAX]).is_ok() && Value::new(vec![1; VALUE_BYTES_MAX]).is_ok());
    }
}
