//! Files in: which kind of result a file holds, and a clear word on every file that holds none.
//!
//! The head is read first and leniently, so that a file of another format is named as such instead of as a list of
//! unknown fields; the rest is read strictly by [`crate::results`].

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use thiserror::Error;

use crate::results::{CompareResults, FORMAT, FaultResults, LoadResults, Provenance};

/// A thousand seeds of every scenario are some 40 MiB. What is far beyond that is another file by mistake.
const BYTES_MAX: u64 = 512 << 20;

/// One file of results.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name without folders: a page goes to others, and where a file lay is nobody's business.
    pub name: String,
    /// What it holds.
    pub results: Results,
}

/// What a file holds.
#[derive(Clone, Debug)]
pub enum Results {
    /// By `faults` or `sim`.
    Faults(FaultResults),
    /// By `compare`.
    Compare(CompareResults),
    /// By `load`.
    Load(Box<LoadResults>),
}

impl Results {
    pub(crate) fn provenance(&self) -> &Provenance {
        match self {
            Self::Faults(results) => &results.provenance,
            Self::Compare(results) => &results.provenance,
            Self::Load(results) => &results.provenance,
        }
    }
}

/// Why a file cannot be drawn.
#[derive(Debug, Error)]
pub enum InputError {
    /// The system refuses it.
    #[error("{}: cannot be read", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing in it.
    #[error("{}: is empty; the run that should have written it has not ended, or has failed", file.display())]
    Empty {
        /// Which file.
        file: PathBuf,
    },
    /// Too long to be a result.
    #[error("{}: is longer than {} MiB, which no result is", file.display(), BYTES_MAX >> 20)]
    TooLong {
        /// Which file.
        file: PathBuf,
    },
    /// Not JSON at all, or cut off.
    #[error("{}: is not JSON, or not all of it", file.display())]
    Json {
        /// Which file.
        file: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// JSON of somebody else.
    #[error(
        "{}: is no result of foreshade-bench; `faults`, `sim`, `compare` and `load` write results with --json",
        file.display()
    )]
    Foreign {
        /// Which file.
        file: PathBuf,
    },
    /// Of another version of this program.
    #[error("{}: has format {found}, and this program draws format {FORMAT}", file.display())]
    Format {
        /// Which file.
        file: PathBuf,
        /// The version that it names.
        found: u64,
    },
    /// Ours by its head, and not by the rest.
    #[error("{}: is damaged", file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct Head {
    provenance: Option<HeadProvenance>,
    scenarios: Option<IgnoredAny>,
    rows: Option<IgnoredAny>,
    generator: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct HeadProvenance {
    format: Option<u64>,
}

/// Reads one file of results.
pub fn read(file: &Path) -> Result<Input, InputError> {
    let unreadable = |source| InputError::Read {
        file: file.to_owned(),
        source,
    };
    let mut text = String::new();
    File::open(file)
        .and_then(|opened| opened.take(BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(unreadable)?;
    let name = file.file_name().map_or_else(
        || file.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    let results = parse(file, &text)?;
    Ok(Input { name, results })
}

fn parse(file: &Path, text: &str) -> Result<Results, InputError> {
    let file = || file.to_owned();
    if text.trim().is_empty() {
        return Err(InputError::Empty { file: file() });
    }
    if text.len() as u64 > BYTES_MAX {
        return Err(InputError::TooLong { file: file() });
    }
    let head: Head = serde_json::from_str(text).map_err(|source| match source.classify() {
        serde_json::error::Category::Data => InputError::Foreign { file: file() },
        _ => InputError::Json { file: file(), source },
    })?;
    let found = head.provenance.and_then(|provenance| provenance.format);
    let found = found.ok_or_else(|| InputError::Foreign { file: file() })?;
    if found != u64::from(FORMAT) {
        return Err(InputError::Format { file: file(), found });
    }
    match (head.scenarios, head.rows, head.generator) {
        (Some(_), None, None) => strictly(text).map(Results::Faults),
        (None, Some(_), None) => strictly(text).map(Results::Compare),
        (None, None, Some(_)) => strictly(text).map(Box::new).map(Results::Load),
        _ => return Err(InputError::Foreign { file: file() }),
    }
    .map_err(|source| InputError::Damaged { file: file(), source })
}

fn strictly<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#""provenance": {"format": 1, "command": "faults", "cores": 2, "processor": "P",
        "versions": {}, "skipped": {}}"#;

    fn complaint(text: &str) -> String {
        let error = parse(Path::new("runs/a.json"), text).unwrap_err();
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        format!("{error}{}", source.unwrap_or_default())
    }

    #[test]
    fn each_kind_is_known_by_what_it_holds() {
        let faults = format!("{{{HEAD}, \"time\": \"real\", \"scenarios\": []}}");
        assert!(matches!(parse(Path::new("a"), &faults), Ok(Results::Faults(_))));
        let compare = format!("{{{HEAD}, \"rows\": []}}");
        assert!(matches!(parse(Path::new("a"), &compare), Ok(Results::Compare(_))));
    }

    #[test]
    fn every_complaint_names_the_file_and_what_is_wrong() {
        let texts = [
            " \n".to_owned(),
            "{\"provenance\": ".to_owned(),
            "# Results".to_owned(),
            "[1, 2]".to_owned(),
            "{\"name\": \"somebody else\"}".to_owned(),
            format!("{{{HEAD}}}"),
            "{\"provenance\": {\"format\": 2}, \"rows\": {}}".to_owned(),
            format!("{{{HEAD}, \"rows\": [], \"colour\": \"red\"}}"),
            format!("{{{HEAD}, \"time\": \"real\", \"scenarios\": [{{\"name\": \"x\"}}]}}"),
        ];
        let complaints: Vec<String> = texts.iter().map(|text| complaint(text)).collect();
        insta::assert_snapshot!(complaints.join("\n"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("nowhere/a.json")).unwrap_err();
        assert!(error.to_string().starts_with("nowhere/a.json: cannot be read"));
    }
}
