//! From a tree of nodes to typed values, reporting every mistake on the way instead of stopping at the first.
//!
//! Each key of a format is declared once, by [`section!`](crate::section!): its name, type, default and meaning. The
//! reader and the JSON schema both come out of that declaration, so they cannot drift apart. serde's derive would give
//! the reader, too, but one that stops at the first mistake; schemars would give the schema, but from a second set of
//! attributes.
//!
//! A section that is read always yields a value, however many of its keys were wrong: a missing piece is `None`, and
//! reported. So the checks that follow can look at everything that *was* understood.

use std::fmt;

use serde_json::{Map, Value as Json, json};

use crate::mistake::{Mistake, Mistakes, Place, quoted};
use crate::nearest::nearest;
use crate::yaml::{Entry, Node, Value};

/// What can be read from a node.
pub trait Read: Sized {
    /// The value, or `None` and at least one mistake. `key` is the key that the node belongs to, for messages.
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self>;

    /// What is expected, in words.
    fn title() -> String;

    /// The JSON schema of what [`Read::read`] takes, without the title.
    fn schema() -> Json;
}

/// A mapping with known keys, made by [`section!`](crate::section!).
pub trait Section: Sized {
    /// Reads what is there; defaults stand for what is not.
    fn of(entries: &mut Entries<'_>) -> Self;

    /// The section where the file has none of it. Only for sections without required keys.
    fn unwritten() -> Self {
        let place = Place {
            line: 0,
            column: 0,
            width: 0,
        };
        Self::of(&mut Entries {
            place,
            entries: &[],
            meant: Vec::new(),
            mistakes: &mut Mistakes::none_yet("", ""),
        })
    }
}

/// A value that is written as one word or number.
pub trait Scalar: Sized {
    /// What is expected, with its article: `a number above 0`.
    fn expected() -> String;
    /// Reads the text.
    fn parse(text: &str) -> Result<Self, Wrong>;
    /// The JSON schema.
    fn schema() -> Json;
}

/// A default, in the notation of the file.
pub trait Shown {
    /// The value as the file would have it.
    fn shown(&self) -> Json;
}

/// Why a text is not the scalar that was expected.
#[derive(Debug, Default)]
pub struct Wrong {
    /// The fault, to be appended to the quoted value; absent where what is expected says it all.
    fault: Option<String>,
    hint: Option<String>,
}

impl Wrong {
    /// The fault as a predicate: `has no port`.
    pub fn because(fault: impl Into<String>) -> Self {
        Self {
            fault: Some(fault.into()),
            hint: None,
        }
    }

    /// The fault and the hint as one sentence, where there is no table of mistakes.
    pub fn sentence(self, text: &str, expected: &str) -> String {
        let fault = self.fault.unwrap_or_else(|| "is not what is expected".to_owned());
        let hint = self.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("{} {fault}: expected {expected}{hint}", quoted(text))
    }

    /// What was probably meant.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl<T: Scalar> Read for T {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        scalar(node, key, &T::expected(), mistakes)
    }

    fn title() -> String {
        T::expected()
    }

    fn schema() -> Json {
        <T as Scalar>::schema()
    }
}

/// Reads a scalar where `expected` may be more than one: the short form of something that has a long form, too.
pub fn scalar<T: Scalar>(node: &Node, key: &str, expected: &str, mistakes: &mut Mistakes) -> Option<T> {
    let Value::Text(text) = &node.value else {
        mistakes.add(unexpected(node, key, expected));
        return None;
    };
    match T::parse(text) {
        Ok(value) => Some(value),
        Err(Wrong { fault, hint }) => {
            let what = match fault {
                Some(fault) => format!("{key}: {} {fault}", quoted(text)),
                None => format!("{key}: invalid value {}", quoted(text)),
            };
            mistakes.add(Mistake::at(node.place, what).expected(expected).hint(hint));
            None
        }
    }
}

/// A part of the file that another program reads and checks: known here, and nothing more.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere;

impl Read for Elsewhere {
    fn read(_: &Node, _: &str, _: &mut Mistakes) -> Option<Self> {
        Some(Self)
    }

    fn title() -> String {
        "what another program reads and checks".to_owned()
    }

    fn schema() -> Json {
        json!({})
    }
}

/// A value and its place, for what is checked against other parts of the file later.
#[derive(Clone, Debug)]
pub struct At<T> {
    place: Option<Place>,
    /// The value.
    pub value: T,
}

impl<T> At<T> {
    /// Another value, written at the same place.
    pub fn with<U>(&self, value: U) -> At<U> {
        At {
            place: self.place,
            value,
        }
    }

    /// Where the value was written; `None` for a default.
    pub fn place(&self) -> Option<Place> {
        self.place
    }
}

impl<T: Read> Read for At<T> {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        T::read(node, key, mistakes).map(|value| Self {
            place: Some(node.place),
            value,
        })
    }

    fn title() -> String {
        T::title()
    }

    fn schema() -> Json {
        T::schema()
    }
}

impl<T: Shown> fmt::Display for At<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.shown() {
            Json::String(text) => f.write_str(&text),
            other => other.fmt(f),
        }
    }
}

impl<T: Shown> Shown for At<T> {
    fn shown(&self) -> Json {
        self.value.shown()
    }
}

impl<T> From<T> for At<T> {
    /// A default.
    fn from(value: T) -> Self {
        Self { place: None, value }
    }
}

/// A list of at least `LEAST` items, without those that could not be read.
#[derive(Debug)]
pub struct List<T, const LEAST: usize> {
    /// What could be read, in order.
    pub items: Vec<T>,
    /// Whether no item is left out, so that what is not in `items` is not in the file either.
    pub whole: bool,
    /// Whether nothing at all is wrong inside of it.
    pub sound: bool,
}

impl<T: Read, const LEAST: usize> Read for List<T, LEAST> {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let Value::List(nodes) = &node.value else {
            mistakes.add(unexpected(node, key, "a list"));
            return None;
        };
        if nodes.len() < LEAST {
            let (what, expected) = match (nodes.len(), LEAST) {
                (_, 1) => (format!("{key} is empty"), "at least one entry".to_owned()),
                (found, _) => (
                    format!("{key} has {found} of the entries that it needs"),
                    format!("at least {LEAST} entries"),
                ),
            };
            mistakes.add(Mistake::at(node.place, what).expected(expected));
            return None;
        }
        let before = mistakes.count();
        let items: Vec<_> = nodes
            .iter()
            .filter_map(|node| T::read(node, key, mistakes))
            .collect();
        let whole = items.len() == nodes.len();
        let sound = mistakes.count() == before;
        Some(Self { items, whole, sound })
    }

    fn title() -> String {
        match LEAST {
            0 => "a list".to_owned(),
            1 => "a list, not empty".to_owned(),
            _ => format!("a list of at least {LEAST}"),
        }
    }

    fn schema() -> Json {
        json!({ "type": "array", "minItems": LEAST, "items": T::schema() })
    }
}

impl<T, const LEAST: usize> List<T, LEAST> {
    /// What stands for a list that could not be read.
    pub fn unread() -> Self {
        Self {
            items: Vec::new(),
            whole: false,
            sound: false,
        }
    }
}

/// The keys of a mapping while a section is read.
pub struct Entries<'a> {
    place: Place,
    entries: &'a [Entry],
    /// Known keys that an unknown one resembles: not reported as missing on top of that.
    meant: Vec<&'static str>,
    mistakes: &'a mut Mistakes,
}

impl<'a> Entries<'a> {
    /// The entries of a node that has to be a mapping; reports the keys that are not `known`.
    pub fn of(
        node: &'a Node,
        key: &str,
        called: &str,
        known: &[&'static str],
        mistakes: &'a mut Mistakes,
    ) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let expected = format!("a mapping with the keys {}", known.join(", "));
            mistakes.add(unexpected(node, key, expected));
            return None;
        };
        let mut meant = Vec::new();
        for entry in entries
            .iter()
            .filter(|entry| !known.contains(&entry.key.as_str()))
        {
            if let Some(candidate) = nearest(&entry.key, known.iter().copied()) {
                meant.extend(known.iter().filter(|key| **key == candidate));
            }
            mistakes.add(
                Mistake::at(
                    entry.key_place,
                    format!("unknown key {} in {called}", quoted(&entry.key)),
                )
                .expected(format!("one of {}", known.join(", ")))
                .hint(mistakes.did_you_mean(&entry.key, known.iter().copied())),
            );
        }
        Some(Self {
            place: node.place,
            entries,
            meant,
            mistakes,
        })
    }

    fn node(&self, key: &str) -> Option<&'a Node> {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
    }

    /// A key that may be left out.
    pub fn optional<T: Read>(&mut self, key: &str) -> Option<T> {
        T::read(self.node(key)?, key, self.mistakes)
    }

    /// A key that must be there.
    pub fn required<T: Read>(&mut self, key: &'static str) -> Option<T> {
        if self.node(key).is_none() && !self.meant.contains(&key) {
            let place = Place {
                width: 1,
                ..self.place
            };
            let mistake = Mistake::at(place, format!("{key} is missing"));
            self.mistakes.add(mistake.expected(T::title()));
        }
        self.optional(key)
    }

    /// A key with a default.
    pub fn default<T: Read>(&mut self, key: &str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// A list that may be left out.
    pub fn list<T: Read>(&mut self, key: &'static str) -> List<T, 0> {
        if self.node(key).is_none() && !self.meant.contains(&key) {
            return List {
                items: Vec::new(),
                whole: true,
                sound: true,
            };
        }
        self.optional(key).unwrap_or_else(List::unread)
    }

    /// A section whose keys all may be left out, and so may it.
    pub fn nested<T: Read + Section>(&mut self, key: &str) -> T {
        self.optional(key).unwrap_or_else(T::unwritten)
    }
}

/// A node of the wrong kind.
pub fn unexpected(node: &Node, key: &str, expected: impl Into<String>) -> Mistake {
    let kind = match &node.value {
        Value::Nothing => {
            return Mistake::at(node.place, format!("{key} has no value"))
                .expected(expected)
                .hint(format!("write a value, or remove {key}"));
        }
        Value::Text(text) => quoted(text),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    };
    Mistake::at(node.place, format!("{key} is {kind}")).expected(expected)
}

/// The keys of a section, each with its schema.
pub type Properties = Map<String, Json>;

/// The schema of a text with an inner form.
pub fn patterned(pattern: &str) -> Json {
    json!({ "type": "string", "pattern": pattern })
}

/// What the schema says of one thing: the type's schema and title, its meaning and its default.
pub fn described<T: Read>(doc: &str, default: Option<Json>) -> Json {
    let mut schema = T::schema();
    if let Json::Object(members) = &mut schema {
        members.insert("title".to_owned(), T::title().into());
        members.insert("description".to_owned(), doc.trim().into());
        members.extend(default.map(|default| ("default".to_owned(), default)));
    }
    schema
}

/// The schema of a section.
pub fn section_schema(properties: &Properties, required: &[Option<&str>]) -> Json {
    json!({
        "type": "object",
        "properties": properties,
        "required": required.iter().flatten().collect::<Vec<_>>(),
        "additionalProperties": false,
    })
}
