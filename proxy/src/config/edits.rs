//! Edits of headers, checked: what they name may be edited, their values are made of variables that there are, and no list
//! of them is endless.

use foreshade_settings::{At, List, Mistake, Mistakes, Place, quoted};
use http::HeaderName;

use super::raw;
use super::route::each;
use super::text::Header;
use super::text::route::Text;
use crate::edit::{EDITS_MAX, HeaderEdits, Template, TemplateError, is_reserved, variables};

/// Checks the edits of one message.
pub(super) fn header_edits(raw: raw::HeaderEdits, mistakes: &mut Mistakes) -> Option<HeaderEdits> {
    let lists = [
        (
            "remove",
            raw.remove.items.len(),
            raw.remove.items.last().and_then(At::place),
        ),
        ("set", raw.set.items.len(), last_place(&raw.set)),
        ("add", raw.add.items.len(), last_place(&raw.add)),
    ];
    for (key, count, place) in lists.into_iter().filter(|(_, count, _)| *count > EDITS_MAX) {
        let what = format!("{key} has {count} entries");
        mistakes.add(Mistake::at(place, what).expected(format!("at most {EDITS_MAX}")));
    }
    let remove = each(raw.remove, |name| editable(&name, mistakes));
    let mut values = |edits: List<raw::HeaderEdit, 0>| {
        each(edits, |raw: raw::HeaderEdit| {
            let name = raw.name.as_ref().and_then(|name| editable(name, mistakes));
            let value = raw.value.and_then(|value| template(&value, mistakes));
            Some((name?, value?))
        })
    };
    let (set, add) = (values(raw.set), values(raw.add));
    Some(HeaderEdits {
        remove: remove?,
        set: set?,
        add: add?,
    })
}

/// Where the last of some edits is written.
fn last_place(edits: &List<raw::HeaderEdit, 0>) -> Option<Place> {
    edits.items.last()?.name.as_ref()?.place()
}

/// A header that may be edited.
pub(super) fn editable(name: &At<Header>, mistakes: &mut Mistakes) -> Option<HeaderName> {
    let header = &name.value.0;
    if is_reserved(header) {
        let what = format!("name: {} is not to be edited", quoted(header.as_str()));
        let hint = match header.as_str() {
            "host" => "write rewrite: { host: ... } to ask endpoints for another host",
            _ => "it frames the message or belongs to one connection, and is this proxy's to set",
        };
        mistakes.add(
            Mistake::at(name.place(), what)
                .expected("a header that speaks of what is asked or answered")
                .hint(hint.to_owned()),
        );
        return None;
    }
    Some(header.clone())
}

fn template(text: &At<Text>, mistakes: &mut Mistakes) -> Option<Template> {
    Template::parse(&text.value.0)
        .inspect_err(|why| {
            let hint = match why {
                TemplateError::Variable(name) => mistakes.did_you_mean(name, variables()),
                TemplateError::Brace => Some("write {{ or }} for a brace".to_owned()),
                TemplateError::Character | TemplateError::Long => None,
            };
            let variables = variables().collect::<Vec<_>>().join(", ");
            mistakes.add(
                Mistake::at(text.place(), format!("value: {} {why}", quoted(&text.value.0)))
                    .expected(format!("visible characters, and in braces one of {variables}"))
                    .hint(hint),
            );
        })
        .ok()
}
