//! The picture of the second act: a pair as `foreshade get --watch` shows it, and its users beside it.
//!
//! It has to fit a terminal of 80 columns and 24 lines, so of the head of what the command prints only those lines are
//! kept that change in this story, and no more of them than the tree leaves room for: the tree is what moves.

use std::net::SocketAddr;

use super::Event;
use crate::load::record::Window;

/// Lines of the command's answer that are shown.
const TREE_LINES: usize = 15;

/// Events that stay on the screen.
const EVENTS_SHOWN: usize = 4;

/// Lines of the head that say the same all the time, or the same as another one.
const LEFT_OUT: [&str; 6] = [
    "Name:",
    "Policy:",
    "Proxies:",
    "RollsBackTo:",
    "Resting:",
    "Blocked:",
];

/// Everything that is known at one moment.
#[derive(Clone, Debug)]
pub struct Picture<'a> {
    /// Seconds since the start.
    pub at_s: f64,
    /// Where users connect.
    pub users: SocketAddr,
    /// Where the controller is asked.
    pub api: SocketAddr,
    /// The pair that is looked at.
    pub pair: String,
    /// Where it stands, in a few words.
    pub state: String,
    /// What users saw in the last second.
    pub now: Window,
    /// Failed requests since the start.
    pub failed: usize,
    /// In the order of their time.
    pub events: &'a [Event],
}

impl Picture<'_> {
    /// The whole picture around what the command says of the pair. Has the same number of lines every time.
    pub fn lines(&self, tree: &str) -> Vec<String> {
        let mut lines = vec![
            format!(
                "the controller leads: users http://{}, API http://{}   {:.0} s",
                self.users, self.api, self.at_s
            ),
            self.seen(),
            format!("$ foreshade get {} --watch", self.pair),
        ];
        let padded = |shown: Vec<String>, count: usize| {
            shown
                .into_iter()
                .chain(std::iter::repeat(String::new()))
                .take(count)
        };
        lines.extend(padded(fitted(tree), TREE_LINES));
        let hidden = self.events.len().saturating_sub(EVENTS_SHOWN);
        let events = self.events.iter().skip(hidden).map(Event::line).collect();
        lines.extend(padded(events, EVENTS_SHOWN));
        lines
    }

    /// The moment in one line, for a log.
    pub fn line(&self) -> String {
        format!(
            "{:>5.1} s  {} {}; {}",
            self.at_s,
            self.pair,
            self.state,
            self.seen()
        )
    }

    fn seen(&self) -> String {
        format!(
            "users: p99 {:.1} ms, {} requests/s, failed so far {}",
            f64::from(self.now.p99_us) / 1e3,
            self.now.requests,
            self.failed
        )
    }
}

/// What is shown of the command's answer: the tree, behind the last empty line, as far as it fits; before it what there
/// is room for of the head, its first lines first.
fn fitted(answer: &str) -> Vec<String> {
    let lines: Vec<&str> = answer.trim_end().lines().collect();
    let tree_from = lines.iter().rposition(|line| line.is_empty()).unwrap_or(0);
    let (head, tree) = lines.split_at(tree_from);
    let changes = |line: &&&str| !LEFT_OUT.iter().any(|key| line.starts_with(key));
    let room = TREE_LINES.saturating_sub(tree.len());
    let shown = head.iter().filter(changes).take(room).chain(tree);
    shown.map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::Span;

    /// An answer with a head of 12 lines, of which none is left out, and a tree of 6.
    fn long() -> String {
        let head: String = (0..12).map(|n| format!("Key{n}: value\n")).collect();
        format!("{head}\nNAME   KIND\na\nb\nc\nd\nlast\n")
    }

    #[test]
    fn a_long_head_makes_room_for_the_tree() {
        let shown = fitted(&long());
        assert_eq!(shown.len(), TREE_LINES);
        let (head, tree) = shown.split_at(8);
        assert_eq!(
            (head[0].as_str(), head[7].as_str()),
            ("Key0: value", "Key7: value")
        );
        assert_eq!(tree, ["", "NAME   KIND", "a", "b", "c", "d", "last"]);
    }

    #[test]
    fn the_picture_keeps_its_height_fits_a_small_terminal_and_keeps_the_tree() {
        let events: Vec<_> = (0..9)
            .map(|n| Event {
                at_s: f64::from(n),
                text: format!("event {n}"),
            })
            .collect();
        let picture = Picture {
            at_s: 12.0,
            users: ([127, 0, 0, 1], 8080).into(),
            api: ([127, 0, 0, 1], 9902).into(),
            pair: "shop/b".into(),
            state: "Baking, 100 % set".into(),
            now: Window {
                span: Span::default(),
                requests: 1_200,
                failed: 0,
                p50_us: 5_000,
                p99_us: 16_100,
            },
            failed: 3,
            events: &events,
        };
        let tree =
            "Name:        shop/b\nState:       Baking\nPolicy:      default\n\nNAME   KIND\n⟳ shop/b Pair\n";
        let lines = picture.lines(tree);
        assert_eq!(picture.lines(&long()).len(), lines.len());
        assert_eq!(lines.len(), picture.lines("").len());
        assert!(lines.len() < 24, "{}", lines.len());
        assert!(lines.iter().any(|line| line.starts_with("⟳")), "{lines:?}");
        assert!(!lines.iter().any(|line| line.starts_with("Policy")), "{lines:?}");
        assert!(lines.last().unwrap().ends_with("event 8"));
        assert_eq!(
            picture.line(),
            " 12.0 s  shop/b Baking, 100 % set; users: p99 16.1 ms, 1200 requests/s, failed so far 3"
        );
    }
}
