//! Rust text without its comments and without the insides of its strings: what a rule on code has to look at.
//!
//! A header may say that a file knows nothing of pingora, and a log filter may name it; neither is a use of it. So a
//! rule that searches the plain text would forbid its own explanation. This is the lexical part of Rust alone (nested
//! comments, raw strings, characters that are no lifetimes); what it blanks out becomes spaces, so that lines stay where
//! they are.

/// The code of a Rust source, line for line and column for column.
pub fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let rest = chars.get(at..).unwrap_or_default();
        let before = at.checked_sub(1).and_then(|i| chars.get(i)).copied();
        let (length, kept) = piece(rest, before);
        for (index, c) in rest.iter().take(length).enumerate() {
            code.push(if index < kept || *c == '\n' { *c } else { ' ' });
        }
        at += length;
    }
    code
}

/// Length of the next piece, and how much of its beginning is code.
fn piece(rest: &[char], before: Option<char>) -> (usize, usize) {
    match rest {
        ['/', '/', ..] => (rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()), 0),
        ['/', '*', ..] => (block_comment(rest), 0),
        ['"', ..] => (quoted(rest, '"'), 1),
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => (quoted(rest, '\''), 1),
        ['r', '"' | '#', ..] if !before.is_some_and(|c| is_word(c) && c != 'b') => raw(rest),
        _ => (1, 1),
    }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match rest.get(at..at + 2) {
            Some(['/', '*']) => (depth, at) = (depth + 1, at + 2),
            Some(['*', '/']) => (depth, at) = (depth.saturating_sub(1), at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(rest.len())
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut escaped = false;
    for (index, c) in rest.iter().enumerate().skip(1) {
        match *c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A raw string, or the raw name that it only looks like (`r#type`).
fn raw(rest: &[char]) -> (usize, usize) {
    let hashes = rest.iter().skip(1).take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return (1, 1);
    }
    let end: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    let body = rest.get(hashes + 2..).unwrap_or_default();
    let length = body.windows(end.len()).position(|w| w == end.as_slice());
    (length.map_or(rest.len(), |n| hashes + 2 + n + end.len()), 1)
}

/// Whether a character can be part of a name.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `word` occurs in `line`, not as part of a longer name.
pub fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: Option<char>, edge: Option<char>| c.is_some_and(is_word) && edge.is_some_and(is_word);
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (
            line.get(..at).unwrap_or_default(),
            line.get(at + word.len()..).unwrap_or_default(),
        );
        !inside(before.chars().next_back(), word.chars().next())
            && !inside(after.chars().next(), word.chars().next_back())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blanked_and_lines_stay() {
        let text = "let a = \"x \\\" // y\"; // z\n/* b /* c */\n d */ let e = 'f';\nlet g = r#\"h \" i\"#; fn j<'k>() {}\n";
        let code = code(text);
        assert_eq!(code.chars().count(), text.chars().count());
        let lines: Vec<&str> = code.lines().map(str::trim_end).collect();
        assert_eq!(lines[0], "let a = \"          ;");
        assert_eq!(lines[2].trim(), "let e = '  ;");
        assert_eq!(lines[3], "let g = r         ; fn j<'k>() {}");
    }

    #[test]
    fn what_never_ends_ends_with_the_file() {
        for text in ["\"a", "/* a", "r#\"a", "'\\", "// a", "r", "'"] {
            assert_eq!(code(text).chars().count(), text.chars().count(), "{text}");
        }
    }

    #[test]
    fn a_word_is_not_found_inside_a_longer_one() {
        assert!(has_word("a tokio::spawn", "tokio"));
        assert!(!has_word("a tokio_util", "tokio"));
        assert!(!has_word("shares", "share"));
        assert!(has_word("let x = panic!()", "panic!"));
    }
}
