//! A head that is being written, and can still be edited: its lines are in the buffer that goes to the socket.
//!
//! Edits are few and heads are short, so they are made where the lines stand: no list, no map, and one way to write a head
//! for those that are edited and those that are not.

use http::{HeaderName, HeaderValue};

use crate::edit::Head;
use crate::fields::write_line;

/// The lines of a head, before the empty one that ends it.
#[derive(Debug)]
pub(super) struct Written<'a> {
    out: &'a mut Vec<u8>,
    /// Where the first line stands.
    first: usize,
}

impl<'a> Written<'a> {
    /// The lines that stand in `out` from `first` on.
    pub(super) fn new(out: &'a mut Vec<u8>, first: usize) -> Self {
        Self { out, first }
    }

    /// Puts a value in the place of all that a header has.
    pub(super) fn put(&mut self, name: &HeaderName, value: &[u8]) {
        self.remove(name);
        write_line(name.as_str().as_bytes(), value, self.out);
    }

    /// The first line of this name that begins at `from` or behind it: where it begins, and where the next one does.
    fn find(&self, from: usize, name: &HeaderName) -> Option<(usize, usize)> {
        let mut at = from;
        loop {
            let rest = self.out.get(at..)?;
            let next = at + memchr::memchr(b'\n', rest)? + 1;
            let (called, behind) = rest.split_at_checked(name.as_str().len())?;
            if behind.first() == Some(&b':') && called.eq_ignore_ascii_case(name.as_str().as_bytes()) {
                return Some((at, next));
            }
            at = next;
        }
    }
}

impl Head for Written<'_> {
    fn remove(&mut self, name: &HeaderName) {
        let mut from = self.first;
        while let Some((at, next)) = self.find(from, name) {
            self.out.drain(at..next);
            from = at;
        }
    }

    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        self.put(name, value.as_bytes());
    }

    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        write_line(name.as_str().as_bytes(), value.as_bytes(), self.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(lines: &str, edit: impl FnOnce(&mut Written<'_>)) -> String {
        let first = "GET / HTTP/1.1\r\n";
        let mut out = format!("{first}{lines}").into_bytes();
        edit(&mut Written::new(&mut out, first.len()));
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix(first).unwrap().to_owned()
    }

    fn name(name: &'static str) -> HeaderName {
        HeaderName::from_static(name)
    }

    #[test]
    fn all_lines_of_a_name_go_and_no_others() {
        let lines = "A: 1\r\nAb: a:\r\na: 2\r\nX: A: 3\r\nA: 4\r\n";
        let left = edited(lines, |head| head.remove(&name("a")));
        assert_eq!(left, "Ab: a:\r\nX: A: 3\r\n");
        assert_eq!(edited("A: 1\r\n", |head| head.remove(&name("get"))), "A: 1\r\n");
        assert_eq!(edited("", |head| head.remove(&name("a"))), "");
        assert_eq!(edited("A: 1\r\n", |head| head.remove(&name("a"))), "");
    }

    #[test]
    fn what_is_set_is_alone_and_what_is_added_is_last() {
        let two = HeaderValue::from_static("2");
        let set = edited("A: 1\r\nB: 1\r\na:\r\n", |head| head.set(&name("a"), two.clone()));
        assert_eq!(set, "B: 1\r\na: 2\r\n");
        let added = edited("A: 1\r\nB: 1\r\n", |head| head.add(&name("a"), two));
        assert_eq!(added, "A: 1\r\nB: 1\r\na: 2\r\n");
    }

    #[test]
    fn a_name_is_found_as_a_whole_and_in_any_letters() {
        for (lines, left) in [
            ("DATE: x\r\n", ""),
            ("A: 1\r\ndate:\r\n", "A: 1\r\n"),
            ("dat: e\r\n", "dat: e\r\n"),
            ("x-date: 1\r\n", "x-date: 1\r\n"),
            ("date-x: 1\r\n", "date-x: 1\r\n"),
            ("A: date: 1\r\n", "A: date: 1\r\n"),
        ] {
            assert_eq!(edited(lines, |head| head.remove(&http::header::DATE)), left);
        }
    }
}
