//! From text to a tree whose every node knows its place.
//!
//! serde stops at the first mistake and forgets where a value stood, so this reads the parser's events itself and
//! leaves scalars as the text that was written: `off` is not turned into a boolean, `1.10` not into a number, before
//! somebody knows what is wanted. Duplicate keys are mistakes, and reading goes on; a syntax error ends it, since
//! whatever follows would be guesswork.
//!
//! Bounds: bytes of text, nodes (aliases count as often as they are used, which defuses alias bombs) and depth.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, options};

use crate::mistake::{Mistake, Mistakes, Place, quoted};

/// Largest file in bytes: ten thousand pairs take half of it. A larger one is a wrong file.
pub const BYTES_MAX: usize = 4 << 20;

/// Most nodes, aliases expanded. Four mebibytes of honest configuration have fewer.
const NODES_MAX: usize = 1 << 18;

/// Deepest nesting. The format needs nine levels.
const DEPTH_MAX: usize = 32;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it stands.
    pub place: Place,
    /// What stands there.
    pub value: Value,
}

/// What stands at a place.
#[derive(Clone, Debug)]
pub enum Value {
    /// A key without a value, `~` or `null`.
    Nothing,
    /// A scalar, as it was written.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<Entry>),
}

/// A key and its value. No key occurs twice in a mapping.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key, as it was written.
    pub key: String,
    /// Where the key stands.
    pub key_place: Place,
    /// The value.
    pub node: Node,
}

/// Reads the only document of a text. `None` where nothing usable came out; the reason is among the mistakes then.
pub fn read(text: &str, mistakes: &mut Mistakes) -> Option<Node> {
    if text.len() > BYTES_MAX {
        mistakes.add(Mistake::of_the_file(format!(
            "the file has more than {BYTES_MAX} bytes"
        )));
        return None;
    }
    let options = options! {
        emit_comments: false,
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
    };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let handled = match event {
            Ok((event, span)) => builder.handle(event, &span, mistakes),
            Err(error) => Err(syntax(&error)),
        };
        if let Err(mistake) = handled {
            mistakes.add(mistake);
            return None;
        }
    }
    let root = builder.root.filter(|root| !matches!(root.value, Value::Nothing));
    if root.is_none() {
        mistakes.add(Mistake::of_the_file("the file is empty"));
    }
    root
}

fn syntax(error: &ScanError) -> Mistake {
    let marker = error.marker();
    let place = Place {
        line: marker.line(),
        column: marker.col() + 1,
        width: 1,
    };
    Mistake::at(place, format!("not valid YAML: {}", error.kind()))
}

/// A list or mapping whose end has not come yet.
struct Open {
    place: Place,
    anchor: usize,
    collection: Collection,
}

enum Collection {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        /// The keys so far and their lines.
        lines: HashMap<String, usize>,
        key: Key,
    },
}

/// What a mapping waits for.
enum Key {
    /// The next key.
    Awaited,
    /// The value of this key.
    Read(String, Place),
    /// A value that is dropped, because something is wrong with its key. That was reported already.
    Refused,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    documents: usize,
    root: Option<Node>,
}

impl Builder {
    /// Takes one event. An error ends the reading; everything else is added to `mistakes`.
    fn handle(&mut self, event: Event<'_>, span: &Span, mistakes: &mut Mistakes) -> Result<(), Mistake> {
        let place = place_of(span);
        if let Some(tag) = event.tag() {
            mistakes.add(
                Mistake::at(place, format!("a YAML tag ({})", quoted(&tag.original())))
                    .expected("a value without a tag"),
            );
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Mistake::at(place, "a second document").expected("one document per file"));
                }
            }
            Event::Scalar(text, style, anchor, _) => {
                let nothing =
                    style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if nothing {
                    Value::Nothing
                } else {
                    Value::Text(text.into_owned())
                };
                self.spend(1, place)?;
                self.finish(Node { place, value }, anchor, mistakes);
            }
            Event::SequenceStart(_, anchor, _) => {
                self.begin(place, anchor, Collection::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, _) => {
                let (entries, lines) = (Vec::new(), HashMap::new());
                self.begin(
                    place,
                    anchor,
                    Collection::Map {
                        entries,
                        lines,
                        key: Key::Awaited,
                    },
                )?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open {
                    place,
                    anchor,
                    collection,
                }) = self.open.pop()
                {
                    let value = match collection {
                        Collection::List(nodes) => Value::List(nodes),
                        Collection::Map { entries, .. } => Value::Map(entries),
                    };
                    self.finish(Node { place, value }, anchor, mistakes);
                }
            }
            Event::Alias(anchor) => {
                let node = self.expand(anchor, place)?;
                self.finish(node, 0, mistakes);
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, place: Place, anchor: usize, collection: Collection) -> Result<(), Mistake> {
        self.spend(1, place)?;
        if self.open.len() >= DEPTH_MAX {
            return Err(too_deep(place));
        }
        self.open.push(Open {
            place,
            anchor,
            collection,
        });
        Ok(())
    }

    /// The node behind an alias. What is inside keeps its own places: that is where a mistake has to be repaired.
    fn expand(&mut self, anchor: usize, place: Place) -> Result<Node, Mistake> {
        let Some(node) = self.anchors.get(&anchor) else {
            // The parser knows the anchor, so its node is still open: we are inside of it.
            return Err(Mistake::at(place, "an alias inside of what it stands for"));
        };
        let (nodes, depth) = extent(node);
        if self.open.len() + depth > DEPTH_MAX {
            return Err(too_deep(place));
        }
        let value = node.value.clone();
        self.spend(nodes, place)?;
        Ok(Node { place, value })
    }

    fn spend(&mut self, nodes: usize, place: Place) -> Result<(), Mistake> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(Mistake::at(
                place,
                format!("more than {NODES_MAX} values, aliases expanded"),
            ));
        }
        Ok(())
    }

    /// Puts a finished node where it belongs: the root, a list, a key or a value.
    fn finish(&mut self, node: Node, anchor: usize, mistakes: &mut Mistakes) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.collection) {
            None => self.root = Some(node),
            Some(Collection::List(nodes)) => nodes.push(node),
            Some(Collection::Map { entries, lines, key }) => {
                *key = match std::mem::replace(key, Key::Awaited) {
                    Key::Awaited => named(node, lines, mistakes),
                    Key::Read(key, key_place) => {
                        entries.push(Entry { key, key_place, node });
                        Key::Awaited
                    }
                    Key::Refused => Key::Awaited,
                }
            }
        }
    }
}

/// A node as the key of a mapping.
fn named(node: Node, lines: &mut HashMap<String, usize>, mistakes: &mut Mistakes) -> Key {
    let Value::Text(key) = node.value else {
        mistakes.add(Mistake::at(node.place, "a key that is not a word").expected("key: value"));
        return Key::Refused;
    };
    match lines.entry(key) {
        Slot::Vacant(slot) => {
            let key = slot.key().clone();
            slot.insert(node.place.line);
            Key::Read(key, node.place)
        }
        Slot::Occupied(slot) => {
            mistakes.add(
                Mistake::at(node.place, format!("duplicate key {}", quoted(slot.key()))).hint(format!(
                    "it stands in line {} already; remove one of them",
                    slot.get()
                )),
            );
            Key::Refused
        }
    }
}

fn too_deep(place: Place) -> Mistake {
    Mistake::at(place, format!("nested deeper than {DEPTH_MAX} levels"))
}

/// Nodes and levels of a tree. The recursion is bounded: no tree deeper than [`DEPTH_MAX`] is ever built.
fn extent(node: &Node) -> (usize, usize) {
    let sum = |inner: &mut dyn Iterator<Item = &Node>| {
        inner
            .map(extent)
            .fold((1, 0), |(nodes, depth), (n, d)| (nodes + n, depth.max(d)))
    };
    let (nodes, depth) = match &node.value {
        Value::Nothing | Value::Text(_) => return (1, 0),
        Value::List(inner) => sum(&mut inner.iter()),
        Value::Map(entries) => sum(&mut entries.iter().map(|entry| &entry.node)),
    };
    (nodes, depth + 1)
}

fn place_of(span: &Span) -> Place {
    let (start, end) = (span.start, span.end);
    // What goes on in the next line is marked to the end of this one; the excerpt crops it.
    let width = if end.line() == start.line() {
        end.index().saturating_sub(start.index())
    } else {
        usize::MAX
    };
    Place {
        line: start.line(),
        column: start.col() + 1,
        width: width.max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(text: &str) -> (Option<Node>, String) {
        let mut mistakes = Mistakes::none_yet("x.yaml", text);
        let node = read(text, &mut mistakes);
        (node, mistakes.or::<()>(None).unwrap_err().to_string())
    }

    #[test]
    fn scalars_stay_as_they_were_written() {
        let (node, mistakes) = reading("[off, 1.10, '', ~, \"null\", 0x1F]");
        let Value::List(nodes) = node.unwrap().value else {
            panic!("a list")
        };
        let texts: Vec<_> = nodes
            .iter()
            .map(|node| match &node.value {
                Value::Text(text) => text.as_str(),
                Value::Nothing => "-",
                _ => "?",
            })
            .collect();
        assert_eq!(texts, ["off", "1.10", "", "-", "null", "0x1F"]);
        assert_eq!(mistakes, "x.yaml: 0 mistakes");
    }

    #[test]
    fn an_alias_stands_for_its_anchor_but_not_for_a_bomb() {
        let (node, _) = reading("a: &a { x: 1 }\nb: *a\n");
        assert_eq!(extent(&node.unwrap()), (5, 2));

        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let alias = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", "));
        }
        let (node, mistakes) = reading(&bomb);
        assert!(node.is_none());
        assert!(
            mistakes.contains("more than 262144 values, aliases expanded"),
            "{mistakes}"
        );
    }

    #[test]
    fn a_ladder_of_aliases_does_not_get_deeper_than_a_written_tree() {
        let mut ladder = "a0: &a0 [x]\n".to_owned();
        for level in 1..5000 {
            ladder += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        let (node, mistakes) = reading(&ladder);
        assert!(node.is_none());
        assert!(mistakes.contains("nested deeper than 32 levels"), "{mistakes}");
    }

    #[test]
    fn what_is_not_a_plain_tree_is_refused() {
        for (text, expected) in [
            ("", "the file is empty"),
            ("---\n~\n", "the file is empty"),
            ("a: [1, 2", "not valid YAML"),
            ("a: &a [*a]", "an alias inside of what it stands for"),
            ("a: *nobody", "not valid YAML"),
            ("a: 1\n---\nb: 2\n", "a second document"),
            ("a: !!binary aGk=", "a YAML tag (\"!!binary\")"),
            ("? [1]\n: 2\n", "a key that is not a word"),
            (&"[".repeat(40), "not valid YAML"),
            (&" ".repeat(BYTES_MAX + 1), "more than 4194304 bytes"),
        ] {
            let (_, mistakes) = reading(text);
            assert!(mistakes.contains(expected), "{text:.20}: {mistakes}");
        }
    }

    #[test]
    fn places_count_characters() {
        let (node, _) = reading("ä: 1\n\"ß\": [two, ' three ']\n");
        let Value::Map(entries) = node.unwrap().value else {
            panic!("a map")
        };
        let Value::List(nodes) = &entries[1].node.value else {
            panic!("a list")
        };
        assert_eq!(
            entries[0].node.place,
            Place {
                line: 1,
                column: 4,
                width: 1
            }
        );
        assert_eq!(
            entries[1].key_place,
            Place {
                line: 2,
                column: 1,
                width: 3
            }
        );
        assert_eq!(
            nodes[1].place,
            Place {
                line: 2,
                column: 12,
                width: 9
            }
        );
    }
}
