//! A file as a whole: its text, within bounds, and the schema that editors are given.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value as Json;

use crate::mistake::{Mistake, Mistakes};
use crate::read::{Read, described};
use crate::yaml::BYTES_MAX;

/// The text of a file.
///
/// # Errors
/// That it cannot be read, as the one mistake of the file.
pub fn text_of(path: &Path) -> Result<String, Mistakes> {
    let mut text = String::new();
    // One byte more than allowed: enough to see that the file is too large, however large it is.
    let limit = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text));
    read.map(|_| text).map_err(|error| {
        let mut mistakes = Mistakes::none_yet(&path.display().to_string(), "");
        mistakes.add(Mistake::of_the_file(format!("cannot be read: {error}")));
        mistakes
    })
}

/// The JSON schema (draft 2020-12) of a file that is a `T`, made for editors: each key has its meaning, default and
/// range. The judge is the reader, which knows more (do names exist?) and takes a plain `1` for a name, which the
/// schema does not.
pub fn schema<T: Read>(about: &str) -> Json {
    let mut schema = described::<T>(about, None);
    if let Some(members) = schema.as_object_mut() {
        members.insert(
            "$schema".to_owned(),
            "https://json-schema.org/draft/2020-12/schema".into(),
        );
    }
    schema
}
