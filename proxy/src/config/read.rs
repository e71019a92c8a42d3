//! From a tree of nodes to typed values, reporting every mistake on the way instead of stopping at the first.
//!
//! Each key of the format is declared once, in `raw`, by [`section!`]: its name, type, default and meaning. The reader
//! and the JSON schema both come out of that declaration, so they cannot drift apart. serde's derive would give the
//! reader, too, but one that stops at the first mistake; schemars would give the schema, but from a second set of
//! attributes.
//!
//! A section that is read always yields a value, however many of its keys were wrong: a missing piece is `None`, and
//! reported. So the checks that follow can look at everything that *was* understood.

use std::fmt;

use serde_json::{Map, Value as Json, json};

use super::mistake::{Mistake, Mistakes, Place, quoted};
use super::yaml::{Entry, Node, Value};

/// What can be read from a node.
pub(super) trait Read: Sized {
    /// The value, or `None` and at least one mistake. `key` is the key that the node belongs to, for messages.
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self>;

    /// What is expected, in words.
    fn title() -> String;

    /// The JSON schema of what [`Read::read`] takes, without the title.
    fn schema() -> Json;
}

/// A mapping with known keys, made by [`section!`].
pub(super) trait Section: Sized {
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
pub(super) trait Scalar: Sized {
    /// What is expected, with its article: `a number above 0`.
    fn expected() -> String;
    /// Reads the text.
    fn parse(text: &str) -> Result<Self, Wrong>;
    /// The JSON schema.
    fn schema() -> Json;
}

/// A default, in the notation of the file.
pub(super) trait Shown {
    fn shown(&self) -> Json;
}

/// Why a text is not the scalar that was expected.
#[derive(Debug, Default)]
pub(super) struct Wrong {
    /// The fault, to be appended to the quoted value; absent where what is expected says it all.
    fault: Option<String>,
    hint: Option<String>,
}

impl Wrong {
    /// The fault as a predicate: `has no port`.
    pub(super) fn because(fault: impl Into<String>) -> Self {
        Self {
            fault: Some(fault.into()),
            hint: None,
        }
    }

    /// The fault and the hint as one sentence, where there is no table of mistakes.
    pub(super) fn sentence(self, text: &str, expected: &str) -> String {
        let fault = self.fault.unwrap_or_else(|| "is not what is expected".to_owned());
        let hint = self.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("{} {fault}: expected {expected}{hint}", quoted(text))
    }

    pub(super) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
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
pub(super) fn scalar<T: Scalar>(
    node: &Node,
    key: &str,
    expected: &str,
    mistakes: &mut Mistakes,
) -> Option<T> {
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

/// A value and its place, for what is checked against other parts of the file later.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    place: Option<Place>,
    pub(super) value: T,
}

impl<T> At<T> {
    /// Another value, written at the same place.
    pub(super) fn with<U>(&self, value: U) -> At<U> {
        At {
            place: self.place,
            value,
        }
    }

    /// Where the value was written; `None` for a default.
    pub(super) fn place(&self) -> Option<Place> {
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
pub(super) struct List<T, const LEAST: usize> {
    pub(super) items: Vec<T>,
    /// Whether no item is left out, so that what is not in `items` is not in the file either.
    pub(super) whole: bool,
    /// Whether nothing at all is wrong inside of it.
    pub(super) sound: bool,
}

impl<T: Read, const LEAST: usize> Read for List<T, LEAST> {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let Value::List(nodes) = &node.value else {
            mistakes.add(unexpected(node, key, "a list"));
            return None;
        };
        if nodes.len() < LEAST {
            mistakes.add(Mistake::at(node.place, format!("{key} is empty")).expected("at least one entry"));
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
        if LEAST == 0 { "a list" } else { "a list, not empty" }.to_owned()
    }

    fn schema() -> Json {
        json!({ "type": "array", "minItems": LEAST, "items": T::schema() })
    }
}

impl<T, const LEAST: usize> List<T, LEAST> {
    /// What stands for a list that could not be read.
    pub(super) fn unread() -> Self {
        Self {
            items: Vec::new(),
            whole: false,
            sound: false,
        }
    }
}

/// The keys of a mapping while a section is read.
pub(super) struct Entries<'a> {
    place: Place,
    entries: &'a [Entry],
    /// Known keys that an unknown one resembles: not reported as missing on top of that.
    meant: Vec<&'static str>,
    mistakes: &'a mut Mistakes,
}

impl<'a> Entries<'a> {
    /// The entries of a node that has to be a mapping; reports the keys that are not `known`.
    pub(super) fn of(
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
            if let Some(candidate) = super::nearest::nearest(&entry.key, known.iter().copied()) {
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
    pub(super) fn optional<T: Read>(&mut self, key: &str) -> Option<T> {
        T::read(self.node(key)?, key, self.mistakes)
    }

    /// A key that must be there.
    pub(super) fn required<T: Read>(&mut self, key: &'static str) -> Option<T> {
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
    pub(super) fn default<T: Read>(&mut self, key: &str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// A list that may be left out.
    pub(super) fn list<T: Read>(&mut self, key: &'static str) -> List<T, 0> {
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
    pub(super) fn nested<T: Read + Section>(&mut self, key: &str) -> T {
        self.optional(key).unwrap_or_else(T::unwritten)
    }
}

/// A node of the wrong kind.
pub(super) fn unexpected(node: &Node, key: &str, expected: impl Into<String>) -> Mistake {
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

/// What the schema says of one thing: the type's schema and title, its meaning and its default.
pub(super) fn described<T: Read>(doc: &str, default: Option<Json>) -> Json {
    let mut schema = T::schema();
    if let Json::Object(members) = &mut schema {
        members.insert("title".to_owned(), T::title().into());
        members.insert("description".to_owned(), doc.trim().into());
        members.extend(default.map(|default| ("default".to_owned(), default)));
    }
    schema
}

/// The schema of a section.
pub(super) fn section_schema(properties: &Map<String, Json>, required: &[Option<&str>]) -> Json {
    json!({
        "type": "object",
        "properties": properties,
        "required": required.iter().flatten().collect::<Vec<_>>(),
        "additionalProperties": false,
    })
}

/// Declares a section: a mapping, by its keys.
///
/// ```text
/// section! {
///     /// What it is.
///     Name "what messages call it":
///     /// What the key means.
///     field "key": required Type;          // Option<Type>; reported where missing
///     field "key": optional Type;          // Option<Type>
///     field "key": default Type = value;   // Type
///     field "key": list List<Type, 0>;     // List<Type, 0>, empty where left out
///     field "key": nested OtherSection;    // OtherSection, whose keys all have defaults
/// }
/// ```
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $Name:ident $called:literal:
        $( $(#[doc = $doc:literal])+ $field:ident $key:literal: $kind:ident $T:ty $(= $default:expr)?; )+
    ) => {
        $(#[doc = $about])+
        #[derive(Debug)]
        pub(in crate::config) struct $Name {
            $( $(#[doc = $doc])+ pub(in crate::config) $field: section!(@type $kind $T), )+
        }

        impl Section for $Name {
            fn of(entries: &mut Entries<'_>) -> Self {
                Self { $( $field: section!(@read $kind entries $key $T $(, $default)?), )+ }
            }
        }

        impl Read for $Name {
            fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
                Entries::of(node, key, $called, &[$($key),+], mistakes).map(|mut entries| Self::of(&mut entries))
            }

            fn title() -> String {
                $called.to_owned()
            }

            fn schema() -> Json {
                let mut properties = Map::new();
                let required = [$(section!(@needed $kind $key)),+];
                $(
                    let default = section!(@default $T $(, $default)?);
                    let schema = described::<$T>(concat!($($doc),+), default);
                    properties.insert($key.to_owned(), schema);
                )+
                section_schema(&properties, &required)
            }
        }
    };
    (@type required $T:ty) => { Option<$T> };
    (@type optional $T:ty) => { Option<$T> };
    (@type default $T:ty) => { $T };
    (@type list $T:ty) => { $T };
    (@type nested $T:ty) => { $T };
    (@read required $entries:ident $key:literal $T:ty) => { $entries.required::<$T>($key) };
    (@read optional $entries:ident $key:literal $T:ty) => { $entries.optional::<$T>($key) };
    (@read default $entries:ident $key:literal $T:ty, $default:expr) => { $entries.default::<$T>($key, $default.into()) };
    (@read list $entries:ident $key:literal $T:ty) => { $entries.list($key) };
    (@read nested $entries:ident $key:literal $T:ty) => { $entries.nested::<$T>($key) };
    (@needed required $key:literal) => { Some($key) };
    (@needed $kind:ident $key:literal) => { None };
    (@default $T:ty) => { None };
    (@default $T:ty, $default:expr) => { Some(<$T as Shown>::shown(&$default.into())) };
}
pub(super) use section;
