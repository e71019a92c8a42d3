//! The key `errorPages` of listeners and routes, and the files that it names.
//!
//! Read with the configuration, as certificates are: a page that is missing would be found missing when everything else is.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use foreshade_settings::{
    AbsolutePath, At, Json, List, Mistake, Mistakes, Node, Read, Scalar, Wrong, choice, section,
};
use http::HeaderValue;
use serde_json::json;

use super::text::route::{MediaType, Text};
use crate::policy::pages::{Of, PAGE_BYTES_MAX, PAGES_MAX, Page, Pages, Shown, Status};

/// How a file becomes a page: by reading it, or by knowing what was in it.
pub(super) type ReadPage<'a> = dyn Fn(&Path) -> io::Result<Bytes> + 'a;

section! {
    /// A page for errors.
    ErrorPageSection "an error page":
    /// For which statuses: 404, or 4xx and 5xx for all that have no page of their own.
    statuses "statuses": required List<At<Statuses>, 1>;
    /// File with the page, at most 64 KiB. Read with the configuration, and again when it changes.
    file "file": optional At<AbsolutePath>;
    /// The page itself, instead of a file.
    body "body": optional At<Text>;
    /// Its media type.
    content_type "contentType": default MediaType = MediaType("text/html; charset=utf-8".to_owned());
    /// Whose answers it stands in for: proxy for those that are given here for want of another, endpoints, or both.
    of "of": default Of = Of::Proxy;
}

/// An [`ErrorPageSection`] that says something.
#[derive(Debug)]
pub(super) struct ErrorPage(ErrorPageSection);

impl Read for ErrorPage {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let before = mistakes.count();
        let section = ErrorPageSection::read(node, key, mistakes)?;
        if section.file.is_none() && section.body.is_none() && mistakes.count() == before {
            mistakes.add(Mistake::at(node.place, "the page is empty").expected("file or body"));
        }
        Some(Self(section))
    }

    fn title() -> String {
        ErrorPageSection::title()
    }

    fn schema() -> Json {
        ErrorPageSection::schema()
    }
}

choice!(Of: "proxy" Proxy, "endpoints" Endpoints, "both" Both);

/// One status, or a hundred of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statuses(Status);

impl Scalar for Statuses {
    fn expected() -> String {
        "a status from 400 to 599, 4xx or 5xx".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "4xx" => Ok(Self(Status::Class(4))),
            "5xx" => Ok(Self(Status::Class(5))),
            _ => match text.parse() {
                Ok(status @ 400..=599) if text.len() == 3 => Ok(Self(Status::Only(status))),
                Ok(_) => Err(Wrong::because("is no error")),
                Err(_) => Err(Wrong::default()),
            },
        }
    }

    fn schema() -> Json {
        json!({ "type": ["integer", "string"], "minimum": 400, "maximum": 599, "pattern": "^([45][0-9][0-9]|4xx|5xx)$" })
    }
}

/// Checks the pages of a listener or a route, and reads their files.
pub(super) fn pages(
    raw: List<At<ErrorPage>, 0>,
    read: &ReadPage<'_>,
    mistakes: &mut Mistakes,
) -> Option<Option<Arc<Pages>>> {
    if let Some(beyond) = raw.items.get(PAGES_MAX) {
        let what = format!("errorPages has {} entries", raw.items.len());
        mistakes.add(Mistake::at(beyond.place(), what).expected(format!("at most {PAGES_MAX}")));
    }
    let whole = raw.whole;
    let pages: Vec<_> = raw
        .items
        .into_iter()
        .map(|one| page(one, read, mistakes))
        .collect();
    let pages: Vec<Page> = pages.into_iter().collect::<Option<_>>()?;
    let none = pages.is_empty();
    whole.then(|| (!none).then(|| Arc::new(Pages(pages))))
}

fn page(raw: At<ErrorPage>, read: &ReadPage<'_>, mistakes: &mut Mistakes) -> Option<Page> {
    let raw = raw.value.0;
    let content_type = HeaderValue::try_from(raw.content_type.0).ok();
    let (file, body) = match (raw.file, raw.body) {
        (Some(file), None) => {
            let path = file.value.0.clone();
            let body = read(&path).map_err(|error| {
                let what = match error.kind() {
                    io::ErrorKind::FileTooLarge => format!("is longer than {PAGE_BYTES_MAX} bytes"),
                    _ => format!("cannot be read: {error}"),
                };
                mistakes.add(Mistake::at(
                    file.place(),
                    format!("file: {} {what}", path.display()),
                ));
            });
            (Some(path), body.ok())
        }
        (None, Some(body)) => {
            let length = body.value.0.len();
            if length as u64 > PAGE_BYTES_MAX {
                let what = format!("body has {length} bytes");
                mistakes.add(Mistake::at(body.place(), what).expected(format!("at most {PAGE_BYTES_MAX}")));
            }
            (None, Some(body.value.0.into()))
        }
        (Some(_), Some(body)) => {
            let what = "a page is in a file or here, and this one is in both";
            mistakes.add(Mistake::at(body.place(), what).expected("either file or body"));
            (None, None)
        }
        // Reported when it was read.
        (None, None) => (None, None),
    };
    let statuses = raw.statuses.filter(|list| list.whole)?;
    Some(Page {
        statuses: statuses.items.into_iter().map(|one| one.value.0).collect(),
        of: raw.of,
        file,
        shown: Shown {
            body: body?,
            content_type: content_type?,
        },
    })
}
