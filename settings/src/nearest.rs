//! Which known word somebody meant who wrote an unknown one.
//!
//! Optimal string alignment: the fewest insertions, deletions, replacements and swaps of neighbours, which are the
//! four ways in which fingers slip. Letter case and the separators `_` and `-` count for nothing, because whoever
//! writes `idle_timeout` for `idleTimeout` made a mistake of style, not of meaning.

/// Longest word that is compared. A name has at most 63 characters, a key fewer.
const WORD_MAX: usize = 64;

/// Candidates that are looked at. A hint is a courtesy; it must not make the check of a large file slow.
const CANDIDATES_MAX: usize = 1000;

/// The candidate with the smallest distance, provided that at most a third of the word is wrong. The first of equals.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = folded(word);
    let allowed = (word.len() / 3).max(1);
    if word.is_empty() || word.len() > WORD_MAX {
        return None;
    }
    candidates
        .into_iter()
        .take(CANDIDATES_MAX)
        .filter_map(|candidate| {
            let other = folded(candidate);
            // Where every character is wrong, likeness means nothing.
            let distance = (other.len() <= WORD_MAX).then(|| distance(&word, &other))?;
            (distance <= allowed && distance < other.len()).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn folded(word: &str) -> Vec<char> {
    word.chars()
        .take(WORD_MAX + 1)
        .filter(|c| !matches!(c, '_' | '-'))
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

#[expect(
    clippy::indexing_slicing,
    reason = "every row has b.len() + 1 cells, and j runs from 1 to b.len()"
)]
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slip_of_a_finger_costs_one() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        for (a, b, expected) in [
            ("", "", 0),
            ("shadow", "shadow", 0),
            ("shadw", "shadow", 1),
            ("shadoow", "shadow", 1),
            ("shaddw", "shadow", 1),
            ("shaodw", "shadow", 1),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(&chars(a), &chars(b)), expected, "{a} {b}");
            assert_eq!(distance(&chars(b), &chars(a)), expected, "{b} {a}");
        }
    }

    #[test]
    fn style_costs_nothing_and_nonsense_finds_nothing() {
        let keys = ["name", "idleTimeout", "address"];
        assert_eq!(nearest("idle_timeout", keys), Some("idleTimeout"));
        assert_eq!(nearest("adress", keys), Some("address"));
        assert_eq!(nearest("zzz", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest("a", ["b"]), None);
        assert_eq!(nearest(&"a".repeat(100_000), keys), None);
    }
}
