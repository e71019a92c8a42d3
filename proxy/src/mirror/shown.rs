//! What may be shown of keys and paths, which are data as often as they are names.
//!
//! `/users/4711/orders` and `{"4711": ...}` carry what a page for operators must not: somebody's number. A word is shown
//! if it looks like one that a programmer chose, and stands as `{}` otherwise. That also folds a million numbered things
//! into one field, which is what a comparison wants. It cannot tell a login name from a field name, so maps with very
//! many keys are folded as a whole (see `json`).

/// Longest word that is shown.
const WORD_MAX: usize = 40;

/// Digits in a word that still looks chosen: `oauth2`, `utf8`, `line_1`.
const DIGITS_MAX: usize = 3;

/// Longest path that is shown.
const PATH_MAX: usize = 120;

/// What stands for a word that may be data.
pub(super) const FOLDED: &str = "{}";

/// The word, or what stands for it.
pub(super) fn word(word: &str) -> &str {
    let letters = word
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_-.$".contains(&byte));
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let chosen = letters && digits <= DIGITS_MAX && word.bytes().any(|byte| byte.is_ascii_alphabetic());
    if chosen && word.len() <= WORD_MAX {
        word
    } else {
        FOLDED
    }
}

/// A request's path without its query, segment by segment.
pub(super) fn path(path: &str) -> String {
    let mut shown = String::new();
    for segment in path.split('/').skip(1) {
        shown.push('/');
        shown.push_str(if segment.is_empty() { "" } else { word(segment) });
        if shown.len() > PATH_MAX {
            shown.truncate(PATH_MAX);
            shown.push_str("...");
            break;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_words_are_shown_and_data_is_not() {
        for name in ["price", "createdAt", "oauth2", "line_1", "$ref", "a.b"] {
            assert_eq!(word(name), name);
        }
        for data in [
            "",
            "4711",
            "7",
            "a@b.example",
            "9f86d081884c7d65",
            "Jane Doe",
            "+49301234",
            "550e8400-e29b-41d4-a716-446655440000",
        ] {
            assert_eq!(word(data), FOLDED, "{data}");
        }
        assert_eq!(word(&"x".repeat(WORD_MAX + 1)), FOLDED);
    }

    #[test]
    fn a_path_keeps_its_shape() {
        assert_eq!(path("/users/4711/orders/"), "/users/{}/orders/");
        assert_eq!(path("/"), "/");
        assert_eq!(path("*"), "");
        assert!(path(&"/abcdefghij".repeat(100)).len() <= PATH_MAX + 3);
    }
}
