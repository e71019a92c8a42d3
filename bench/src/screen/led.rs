//! The picture of the second act: a pair as `foreshade get --watch` shows it, and its users beside it.
//!
//! It has to fit a terminal of 80 columns and 24 lines, so of the head of what the command prints only those lines are
//! kept that change in this story; the tree is kept whole.

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
        let shown = tree
            .lines()
            .filter(|line| !LEFT_OUT.iter().any(|key| line.starts_with(key)));
        let padded = |shown: Vec<String>, count: usize| {
            shown
                .into_iter()
                .chain(std::iter::repeat(String::new()))
                .take(count)
        };
        lines.extend(padded(shown.map(str::to_owned).collect(), TREE_LINES));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::Span;

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
