//! Rules on who may know whom: which crate depends on which, and what each one must not touch.

use super::code::{code, has_word, is_word};
use super::{File, Finding};

/// Who may depend on whom inside the workspace. What is not here may not exist.
const MAY_DEPEND: [(&str, &[&str]); 10] = [
    ("contract", &[]),
    ("engine", &["contract"]),
    ("settings", &["contract"]),
    ("door", &["settings"]),
    ("proxy/sys", &[]),
    ("proxy", &["contract", "engine", "settings", "door", "sys"]),
    ("controller", &["contract", "engine", "settings", "door"]),
    ("fuzz", &["proxy"]),
    (
        "bench",
        &["contract", "engine", "settings", "proxy", "controller"],
    ),
    (
        "tests",
        &["contract", "engine", "settings", "proxy", "controller", "bench"],
    ),
];

/// Where pingora may be named in code. Everywhere else the policy stays free of its substrate.
const KNOW_PINGORA: [&str; 4] = [
    "proxy/src/server",
    "proxy/src/http",
    "proxy/src/upstream",
    "bench/src/bare",
];

/// What would make a decision depend on more than its arguments.
const IMPURE: [&str; 12] = [
    "Instant",
    "SystemTime",
    "tokio",
    "thread::spawn",
    "rand::rng",
    "thread_rng",
    "OsRng",
    "ThreadRng",
    "std::net",
    "std::fs",
    "std::env",
    "std::io",
];

/// `contract <- {engine, settings <- door} <- {proxy, controller} <- {bench, tests}`, read from the manifests.
pub fn dependencies(file: &File) -> Vec<Finding> {
    let Some(folder) = file.path.strip_suffix("/Cargo.toml") else {
        return Vec::new();
    };
    let Some((_, allowed)) = MAY_DEPEND.iter().find(|(member, _)| *member == folder) else {
        return vec![file.finding(0, "this crate has no place in the order of dependencies")];
    };
    let mut findings = Vec::new();
    let mut in_dependencies = false;
    for (index, line) in file.text.lines().enumerate() {
        let named = match line.strip_prefix('[') {
            Some(section) => {
                let section = section.trim_end_matches(']');
                in_dependencies = section.ends_with("dependencies");
                section.split_once("dependencies.").map(|(_, name)| name)
            }
            None => line.split(['.', '=', ' ']).next().filter(|_| in_dependencies),
        };
        let Some(other) = named.and_then(|name| name.trim_matches('"').strip_prefix("foreshade-")) else {
            continue;
        };
        if !allowed.contains(&other) {
            findings.push(file.finding(index, format!("{folder} may not depend on {other}")));
        }
    }
    findings
}

/// pingora is named in code only at the edge.
pub fn pingora(file: &File) -> Vec<Finding> {
    if KNOW_PINGORA.iter().any(|at| file.path.starts_with(at)) {
        return Vec::new();
    }
    lines_with(
        file,
        "names pingora, which only server, http and upstream know",
        |line| {
            line.match_indices("pingora").any(|(at, _)| {
                let rest = line.get(at..).unwrap_or_default();
                rest.trim_start_matches(is_word).starts_with("::")
                    || line.trim_start().starts_with("use pingora")
            })
        },
    )
}

/// `unsafe` stands only in the crate of system calls.
pub fn safety(file: &File) -> Vec<Finding> {
    if file.path.starts_with("proxy/sys/") {
        return Vec::new();
    }
    lines_with(file, "`unsafe` outside proxy/sys", |line| {
        has_word(line, "unsafe")
    })
}

/// The engine reads no clock, starts no task, touches no socket and no file, and draws from no global randomness.
pub fn purity(file: &File) -> Vec<Finding> {
    if !file.path.starts_with("engine/src/") {
        return Vec::new();
    }
    let impure = |word: &&str| format!("the engine is pure, and `{word}` is not");
    let found = |word: &'static str| lines_with(file, &impure(&word), move |line| has_word(line, word));
    IMPURE.into_iter().flat_map(found).collect()
}

/// Every crate takes the workspace's lints, save the one that may say `unsafe`.
pub fn lints(file: &File) -> Vec<Finding> {
    let is_member = file.path.ends_with("/Cargo.toml") && !file.path.starts_with("proxy/sys/");
    if is_member && !file.text.contains("[lints]\nworkspace = true") {
        return vec![file.finding(0, "does not take the workspace's lints")];
    }
    Vec::new()
}

fn lines_with(file: &File, what: &str, breaks: impl Fn(&str) -> bool) -> Vec<Finding> {
    let code = code(&file.text);
    let lines = code.lines().enumerate().filter(|(_, line)| breaks(line));
    lines.map(|(index, _)| file.finding(index, what)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_against_the_direction_is_found_however_it_is_written() {
        let found = |path, text| dependencies(&File::sample(path, text)).len();
        assert_eq!(
            found(
                "engine/Cargo.toml",
                "[dependencies]\nforeshade-proxy.workspace = true\n"
            ),
            1
        );
        assert_eq!(
            found(
                "proxy/Cargo.toml",
                "[dev-dependencies]\nforeshade-controller = { path = \"x\" }\n"
            ),
            1
        );
        assert_eq!(
            found(
                "controller/Cargo.toml",
                "[dependencies.foreshade-proxy]\npath = \"x\"\n"
            ),
            1
        );
        assert_eq!(found("dashboard/Cargo.toml", "[dependencies]\n"), 1);
        assert_eq!(
            found(
                "proxy/Cargo.toml",
                "[package]\nname = \"foreshade-proxy\"\n[dependencies]\nforeshade-engine = 1\n"
            ),
            0
        );
        assert_eq!(
            found("Cargo.toml", "[workspace.dependencies]\nforeshade-proxy = 1\n"),
            0
        );
    }

    #[test]
    fn pingora_in_code_is_found_and_in_words_is_not() {
        let found = |path, text| pingora(&File::sample(path, text)).len();
        assert_eq!(
            found(
                "proxy/src/worker.rs",
                "use pingora_core::server;\nlet x = pingora_http::y();\n"
            ),
            2
        );
        assert_eq!(found("engine/src/lib.rs", "use pingora_core as other;\n"), 1);
        assert_eq!(
            found(
                "proxy/src/worker.rs",
                "//! Knows nothing of pingora::x.\nlet f = \"pingora_core::x\";\n"
            ),
            0
        );
        assert_eq!(
            found("proxy/src/server/listen.rs", "use pingora_core::server;\n"),
            0
        );
    }

    #[test]
    fn unsafe_outside_its_crate_is_found() {
        let found = |path| {
            safety(&File::sample(
                path,
                "// unsafe\n#![forbid(unsafe_code)]\nunsafe { x() }\n",
            ))
            .len()
        };
        assert_eq!(
            (found("proxy/src/worker.rs"), found("proxy/sys/src/lib.rs")),
            (1, 0)
        );
    }

    #[test]
    fn an_engine_that_reads_a_clock_is_found() {
        let found = |path, text| purity(&File::sample(path, text)).len();
        assert_eq!(
            found("engine/src/shift.rs", "use std::time::{Duration, Instant};\n"),
            1
        );
        assert_eq!(
            found("engine/src/shift.rs", "rand::rng();\ntokio::spawn(x);\n"),
            2
        );
        assert_eq!(
            found(
                "engine/src/shift.rs",
                "/// Unlike an `Instant`.\nuse rand::rngs::SmallRng;\n"
            ),
            0
        );
        assert_eq!(found("proxy/src/clock.rs", "use std::time::Instant;\n"), 0);
    }

    #[test]
    fn a_crate_without_the_lints_is_found() {
        let found = |path, text| lints(&File::sample(path, text)).len();
        assert_eq!(found("engine/Cargo.toml", "[package]\n"), 1);
        assert_eq!(found("engine/Cargo.toml", "[lints]\nworkspace = true\n"), 0);
        assert_eq!(found("Cargo.toml", "[workspace]\n"), 0);
    }
}
