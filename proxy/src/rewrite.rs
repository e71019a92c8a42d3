//! What an endpoint is asked for instead of what the user asked for: another path, another host.
//!
//! The result is brought to its normal form again, because a replacement can put together what was apart: `(.*)x(.*)`
//! makes `..` out of `.x.`. Where the result is no path, the request is not sent: half a rewrite leads to the wrong place.

use crate::path::{DuplicateSlashes, EncodedSlashes, PathPolicy, normal};
use crate::route::pattern::Pattern;

/// What is made of a request before it is sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rewrite {
    /// The path, where it changes.
    pub path: Option<PathRewrite>,
    /// The value of `Host`, where it changes.
    pub host: Option<String>,
}

/// Another path.
#[derive(Clone, Debug, PartialEq)]
pub enum PathRewrite {
    /// Another beginning.
    Prefix {
        /// The prefix that the route matched.
        from: String,
        /// What stands there instead.
        to: String,
    },
    /// The first part that fits is replaced.
    Pattern {
        /// What is looked for.
        pattern: Pattern,
        /// What stands there instead; `$1` is what the first group took.
        replacement: String,
    },
}

/// The replacement made something that is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rewrite of the path makes no path of it")]
pub struct NoPath;

impl PathRewrite {
    /// The new path for a normal one; `None` where it stays.
    ///
    /// # Errors
    /// Where the replacement made something that is no path.
    pub fn apply(&self, path: &str) -> Result<Option<String>, NoPath> {
        /// What passed the listener's policy passes here.
        const POLICY: PathPolicy = PathPolicy {
            encoded_slashes: EncodedSlashes::Keep,
            duplicate_slashes: DuplicateSlashes::Keep,
        };
        let rewritten = match self {
            Self::Prefix { from, to } => with_prefix(path, from, to),
            Self::Pattern { pattern, replacement } => pattern.replaced(path, replacement),
        };
        let Some(rewritten) = rewritten else {
            return Ok(None);
        };
        if rewritten.contains(['?', '#']) {
            return Err(NoPath);
        }
        match normal(rewritten.as_bytes(), POLICY) {
            Ok(Some(normal)) => Ok(Some(normal)),
            Ok(None) => Ok(Some(rewritten)),
            Err(_) => Err(NoPath),
        }
    }
}

/// The path with `to` in place of its prefix `from`, which it has in whole segments; `None` where it has not.
pub fn with_prefix(path: &str, from: &str, to: &str) -> Option<String> {
    let rest = path.strip_prefix(from.strip_suffix('/').unwrap_or(from))?;
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    let to = to.strip_suffix('/').unwrap_or(to);
    Some(match format!("{to}{rest}") {
        empty if empty.is_empty() => "/".to_owned(),
        path => path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_prefix_is_replaced_in_whole_segments() {
        for (path, from, to, expected) in [
            ("/api/x", "/api", "/v2", Some("/v2/x")),
            ("/api", "/api", "/v2", Some("/v2")),
            ("/api/", "/api", "/v2", Some("/v2/")),
            ("/api", "/api", "/", Some("/")),
            ("/api/x", "/api", "/", Some("/x")),
            ("/x", "/", "/v2", Some("/v2/x")),
            ("/", "/", "/v2/", Some("/v2/")),
            ("/apix", "/api", "/v2", None),
        ] {
            assert_eq!(
                with_prefix(path, from, to).as_deref(),
                expected,
                "{path} {from} {to}"
            );
        }
    }

    #[test]
    fn a_pattern_cannot_make_what_was_taken_out() {
        let rewrite = |pattern, replacement: &str| PathRewrite::Pattern {
            pattern: Pattern::new(pattern).unwrap(),
            replacement: replacement.to_owned(),
        };
        let dots = rewrite("x", "");
        assert_eq!(dots.apply("/a/.x./b"), Ok(Some("/b".to_owned())));
        assert_eq!(dots.apply("/a"), Ok(None));
        assert_eq!(rewrite("^/a", "").apply("/ab"), Err(NoPath));
        assert_eq!(rewrite("a", "%").apply("/a"), Err(NoPath));
        assert_eq!(rewrite("a", "?").apply("/a"), Err(NoPath));
    }

    proptest! {
        #[test]
        fn what_comes_out_is_a_path_without_dots(path in "(/[.ax]{0,3}){1,4}", cut in "[.ax/]{1,2}", to in "[./a]{0,3}") {
            let rewrite = PathRewrite::Pattern {
                pattern: Pattern::new(&cut.replace('.', "\\.")).unwrap(),
                replacement: to,
            };
            if let Ok(Some(path)) = rewrite.apply(&path) {
                prop_assert!(path.starts_with('/'), "{path}");
                prop_assert!(!path.split('/').any(|s| matches!(s, "." | "..")), "{path}");
            }
        }
    }
}
