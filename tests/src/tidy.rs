//! The repository as data, and the rules that its sources, manifests and documents keep.
//!
//! What a reviewer would have to remember is written down here instead, so that it holds on the day nobody remembers.
//! A rule is a function from what it reads to its [`Finding`]s; beside each one a test shows it a breach on purpose,
//! because a rule that finds nothing anywhere proves nothing. `tests/tests/tidy.rs` applies them to this repository.
//!
//! Reads with the standard library alone: a parser for each format would be exact and large, and a rule that fails by
//! mistake is noticed at once.

pub mod boundaries;
pub mod code;
pub mod concepts;
pub mod documents;
pub mod sources;
pub mod words;

use std::fmt;
use std::io;
use std::path::Path;
use std::process::Command;

/// Folders that are never part of the repository, for a tree without git.
const FOREIGN: [&str; 3] = [".git", "target", "node_modules"];

/// A text file of the repository.
#[derive(Clone, Debug)]
pub struct File {
    /// Path from the root, with slashes.
    pub path: String,
    /// Its text.
    pub text: String,
    /// Whether its owner may execute it.
    pub executable: bool,
}

/// A breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where: path and line, counted from one.
    pub place: (String, usize),
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.place.0, self.place.1, self.what)
    }
}

impl File {
    /// A file for a test of a rule.
    pub fn sample(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            executable: false,
        }
    }

    /// Whether the name ends so; with the dot.
    pub fn ends(&self, ending: &str) -> bool {
        self.path.ends_with(ending)
    }

    /// A breach in this file. `index` counts lines from zero.
    pub fn finding(&self, index: usize, what: impl Into<String>) -> Finding {
        Finding {
            place: (self.path.clone(), index + 1),
            what: what.into(),
        }
    }

    /// How many lines a Rust source has before its tests; none if it is a test as a whole.
    pub fn lines_before_tests(&self) -> usize {
        if self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
        {
            return 0;
        }
        let lines: Vec<&str> = self.text.lines().collect();
        let opens = |at: &usize| {
            let mut below = lines.iter().skip(*at).skip_while(|line| line.starts_with("#["));
            lines.get(*at) == Some(&"#[cfg(test)]") && below.next().is_some_and(|line| line.ends_with('{'))
        };
        (0..lines.len()).find(opens).unwrap_or(lines.len())
    }
}

/// Every text file that belongs to the repository, or would if it were added.
///
/// # Errors
/// When the tree at `root` cannot be read.
pub fn read(root: &Path) -> io::Result<Vec<File>> {
    let mut paths = Vec::new();
    match listed_by_git(root) {
        Some(listed) => paths = listed,
        None => walk(root, "", &mut paths)?,
    }
    paths.sort_unstable();
    let mut files = Vec::new();
    for path in paths {
        let full = root.join(&path);
        // Deleted but still listed, or not text: neither has lines to judge.
        if let Ok(text) = std::fs::read_to_string(&full) {
            files.push(File {
                executable: is_executable(&full)?,
                path,
                text,
            });
        }
    }
    Ok(files)
}

/// `None` where there is no git, or it does not trust this tree.
fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git")
        .current_dir(root)
        .args(arguments)
        .output()
        .ok()?;
    let names = String::from_utf8(listed.stdout)
        .ok()
        .filter(|_| listed.status.success())?;
    Some(names.split_terminator('\0').map(str::to_owned).collect())
}

fn walk(root: &Path, below: &str, paths: &mut Vec<String>) -> io::Result<()> {
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() {
            name.clone()
        } else {
            format!("{below}/{name}")
        };
        match entry.file_type()? {
            kind if kind.is_dir() && !FOREIGN.contains(&name.as_str()) => walk(root, &path, paths)?,
            kind if kind.is_file() => paths.push(path),
            _ => {}
        }
    }
    Ok(())
}

fn is_executable(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o100 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_the_same_with_and_without_git() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut walked = Vec::new();
        walk(root, "", &mut walked).unwrap();
        let read: Vec<_> = read(root).unwrap().into_iter().map(|file| file.path).collect();
        walked.sort_unstable();
        assert_eq!(read, walked);
        assert!(read.contains(&"src/tidy.rs".to_owned()));
    }

    #[test]
    fn tests_begin_at_the_module_with_a_body_and_not_at_its_declaration() {
        let lines = |path, text| File::sample(path, text).lines_before_tests();
        assert_eq!(
            lines(
                "a/src/b.rs",
                "one\n#[cfg(test)]\nmod fixture;\n#[cfg(test)]\n#[expect(x)]\nmod tests {\n}\n"
            ),
            3
        );
        assert_eq!(lines("a/src/b.rs", "one\ntwo\n"), 2);
        assert_eq!(lines("a/src/b/tests.rs", "one\n"), 0);
        assert_eq!(lines("a/tests/b.rs", "one\n"), 0);
    }
}
