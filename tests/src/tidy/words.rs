//! Words that no committed file holds: notes for later, places of one machine, hosts of a registry.
//!
//! The lists are joined from halves, so that this file passes its own rules.

use super::code::has_word;
use super::{File, Finding};

/// What is not finished. A note in a file is read by nobody; what is missing stands in the documents as planned.
const UNFINISHED: [&str; 7] = [
    concat!("to", "do!"),
    concat!("unimpl", "emented!"),
    concat!("db", "g!"),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("#[ign", "ore"),
];

/// Folders of whoever wrote the file.
const MACHINE: [&str; 4] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
];

/// Hosts that packages come from. Which one is used is the business of whoever builds.
const REGISTRIES: [&str; 8] = [
    concat!("crates", ".io"),
    concat!("docker", ".io"),
    concat!("ghcr", ".io"),
    concat!("quay", ".io"),
    concat!("gcr", ".io"),
    concat!("pypi", ".org"),
    concat!("npmjs", ".org"),
    concat!("artif", "actory"),
];

/// The only source that the lock file may name.
const LOCKED_FROM: &str = concat!("registry+https://github.com/rust-lang/crates", ".io-index");

/// Nothing is left for later.
pub fn unfinished(file: &File) -> Vec<Finding> {
    lines(
        file,
        |line| UNFINISHED.into_iter().find(|word| has_word(line, word)),
        "is left for later",
    )
}

/// Nothing is tied to one machine.
pub fn machine_paths(file: &File) -> Vec<Finding> {
    lines(
        file,
        |line| MACHINE.into_iter().find(|path| line.contains(path)),
        "is a path of one machine",
    )
}

/// No registry is named; in the lock file only the usual one.
pub fn registries(file: &File) -> Vec<Finding> {
    if file.ends("Cargo.lock") {
        let source = |line: &str| {
            line.strip_prefix("source = ")
                .map(|s| s.trim_matches('"').to_owned())
        };
        let odd = |line: &str| source(line).is_some_and(|s| s != LOCKED_FROM).then_some("this");
        return lines(file, odd, "is not the usual registry");
    }
    lines(
        file,
        |line| REGISTRIES.into_iter().find(|host| line.contains(host)),
        "is a host of a registry",
    )
}

fn lines(file: &File, find: impl Fn(&str) -> Option<&'static str>, what: &str) -> Vec<Finding> {
    let found = |(index, line)| find(line).map(|word| file.finding(index, format!("`{word}` {what}")));
    file.text.lines().enumerate().filter_map(found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unfinished_word_is_found_and_its_neighbours_are_not() {
        for word in UNFINISHED {
            assert_eq!(
                unfinished(&File::sample("a.rs", &format!("x {word} y\n"))).len(),
                1,
                "{word}"
            );
        }
        assert_eq!(
            unfinished(&File::sample("scripts/a", concat!("mktemp /tmp/x.XX", "XXXX\n"))),
            []
        );
    }

    #[test]
    fn every_path_of_a_machine_is_found() {
        for path in MACHINE {
            assert_eq!(
                machine_paths(&File::sample("a.md", &format!("see {path}x\n"))).len(),
                1,
                "{path}"
            );
        }
        assert_eq!(
            machine_paths(&File::sample(
                "a.md",
                "see engine/src/lib.rs and /etc/foreshade\n"
            )),
            []
        );
    }

    #[test]
    fn every_registry_is_found_and_the_lock_file_may_name_the_usual_one() {
        for host in REGISTRIES {
            assert_eq!(
                registries(&File::sample("Dockerfile", &format!("FROM {host}/x\n"))).len(),
                1,
                "{host}"
            );
        }
        let lock =
            |source: &str| registries(&File::sample("Cargo.lock", &format!("source = \"{source}\"\n"))).len();
        assert_eq!(
            (lock(LOCKED_FROM), lock("sparse+https://mirror.example/index/")),
            (0, 1)
        );
    }
}
