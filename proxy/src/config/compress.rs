//! The key `compression` of listeners and routes.

use std::sync::Arc;

use foreshade_settings::{
    At, Choice, Json, List, Mistake, Mistakes, Node, Read, Shown, Value, Wrong, choice, scalar, section,
    text, word,
};
use serde_json::json;

use super::limits::Size;
use super::route::each;
use crate::policy::compress::{Coding, Compress, Compression, Effort, TYPES, TYPES_MAX, TypeRule};

/// What is offered where nothing is said: what costs least for the bytes that it saves comes first.
const CODINGS: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

section! {
    /// How answers of endpoints are compressed.
    CompressionSection "a compression section":
    /// What is offered, the best first, of zstd, br and gzip: of those that a client likes equally the first is taken. All
    /// three, in this order, where left out.
    encodings "encodings": list List<At<Coding>, 0>;
    /// How much work is put into fewer bytes: fast, balanced or small.
    level "level": default Effort = Effort::Balanced;
    /// Shorter answers are left as they are.
    min_length "minLength": default Size<1, 0x4000_0000> = Size(1024);
    /// Media types that are compressed, instead of texts, JSON, XML, JavaScript and the like: whole ones, text/*, or *+json.
    types "types": optional At<List<MediaTypes, 1>>;
}

choice!(Coding: "zstd" Zstd, "br" Brotli, "gzip" Gzip);

choice!(Effort: "fast" Fast, "balanced" Balanced, "small" Small);

text! {
    /// One media type, or several.
    MediaTypes(String), "a media type as text/html, text/*, or *+json", media_types,
    "^[a-z0-9][a-z0-9!#$&^_.+-]*/([a-z0-9][a-z0-9!#$&^_.+-]*|\\*)$|^\\*\\+[a-z0-9]+$"
}

fn media_types(text: &str) -> Result<String, Wrong> {
    let lower = text.to_ascii_lowercase();
    if lower.contains(';') {
        return Err(Wrong::because("has parameters, and is compared without any"));
    }
    let is_token = |part: &str| {
        let token =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$&^_.+-".contains(&byte);
        !part.is_empty() && part.bytes().all(token)
    };
    let sound = match (lower.strip_prefix("*+"), lower.split_once('/')) {
        (Some(suffix), _) => is_token(suffix),
        (None, Some((kind, form))) => is_token(kind) && (form == "*" || is_token(form)),
        (None, None) => false,
    };
    if !sound {
        return Err(Wrong::default());
    }
    Ok(lower)
}

/// Whether, and how.
#[derive(Debug)]
pub(super) enum Written {
    Off,
    On(Box<CompressionSection>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Off;

impl Choice for Off {
    const ALL: &'static [(&'static str, Self)] = &[("off", Self)];
}

impl Read for Written {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return CompressionSection::read(node, key, mistakes).map(|section| Self::On(Box::new(section)));
        }
        scalar(node, key, &Self::title(), mistakes).map(|Off| Self::Off)
    }

    fn title() -> String {
        "off, or a compression section".to_owned()
    }

    fn schema() -> Json {
        json!({ "anyOf": [<Off as Read>::schema(), CompressionSection::schema()] })
    }
}

impl Shown for Off {
    fn shown(&self) -> Json {
        word(*self).into()
    }
}

/// Checks how answers are compressed.
pub(super) fn compress(raw: Written, mistakes: &mut Mistakes) -> Option<Compress> {
    let Written::On(raw) = raw else {
        return Some(Compress::Off);
    };
    let codings = codings(&raw.encodings, mistakes)?;
    let types = match raw.types {
        Some(list) => {
            let (place, list) = (list.place(), list.value);
            let count = list.items.len();
            if count > TYPES_MAX {
                let what = format!("types has {count} entries");
                mistakes.add(Mistake::at(place, what).expected(format!("at most {TYPES_MAX}")));
            }
            each(list, |one| Some(rule(&one.0)))?
        }
        None => TYPES.iter().map(|one| rule(one)).collect(),
    };
    Some(Compress::By(Arc::new(Compression {
        codings,
        effort: raw.level,
        bytes_min: raw.min_length.0,
        types,
    })))
}

fn codings(list: &List<At<Coding>, 0>, mistakes: &mut Mistakes) -> Option<Vec<Coding>> {
    let mut codings = Vec::new();
    for one in &list.items {
        if codings.contains(&one.value) {
            let what = format!("encodings: {} stands there twice", one.value.label());
            mistakes.add(Mistake::at(one.place(), what).expected("each of them once"));
        }
        codings.push(one.value);
    }
    if codings.is_empty() {
        codings.extend(CODINGS);
    }
    list.whole.then_some(codings)
}

fn rule(text: &str) -> TypeRule {
    match (text.strip_suffix('*'), text.strip_prefix('*')) {
        (Some(family), _) => TypeRule::Family(family.to_owned()),
        (None, Some(suffix)) => TypeRule::Suffix(suffix.to_owned()),
        (None, None) => TypeRule::Exact(text.to_owned()),
    }
}
