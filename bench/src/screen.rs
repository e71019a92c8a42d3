//! The demo's picture: what is known at one moment, as lines of text.
//!
//! Plain text with a handful of terminal codes instead of a drawing library: one table, two numbers and a list of events
//! need no more, and the same lines read well in a log.

pub mod led;

use crate::load::record::Window;

/// Width of a share's bar in characters.
const BAR_WIDTH: usize = 20;

/// Events that stay on the screen.
const EVENTS_SHOWN: usize = 7;

/// One primary and its shadow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointLine {
    /// Name of the primary.
    pub name: String,
    /// 0 to 1.
    pub risk: f64,
    /// Share of its traffic that its shadow serves, 0 to 1.
    pub share: f64,
    /// Where its shift stands.
    pub phase: String,
    /// Requests per second that reach it.
    pub rps: f64,
    /// Requests per second that reach its shadow.
    pub shadow_rps: f64,
    /// 99th percentile of its latency as the proxy sees it, in milliseconds.
    pub p99_ms: f64,
    /// Errors that it has answered.
    pub errors: u64,
}

/// What users of one proxy see.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UsersLine {
    /// The last second; `None` at the very start.
    pub now: Option<Window>,
    /// Failed requests since the start.
    pub failed: usize,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Seconds since the start.
    pub at_s: f64,
    /// What.
    pub text: String,
}

/// Everything that is known at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// Seconds since the start.
    pub at_s: f64,
    /// Seconds that the demo takes.
    pub end_s: f64,
    /// One line above everything.
    pub title: String,
    /// Primaries behind the proxy that shifts.
    pub endpoints: Vec<EndpointLine>,
    /// Users of the proxy that shifts.
    pub with: UsersLine,
    /// Users of the proxy that does not.
    pub without: UsersLine,
    /// What the other proxy does, in a few words.
    pub baseline: &'static str,
    /// In the order of their time.
    pub events: Vec<Event>,
}

impl Picture {
    /// The whole picture. Has the same number of lines every time.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("{}   {:.1} s of {:.0}", self.title, self.at_s, self.end_s),
            String::new(),
            format!(
                "{:<10} {:>4}  {:<29} {:>7} {:>8} {:>8} {:>7}",
                "endpoint", "risk", "on its shadow", "req/s", "shadow", "p99 ms", "errors"
            ),
        ];
        lines.extend(self.endpoints.iter().map(endpoint));
        lines.extend([
            String::new(),
            format!("{:<24} {:>18} {:>22}", "users", "with foreshade", self.baseline),
            format!(
                "{:<24} {:>18} {:>22}",
                "p99, last second",
                p99(&self.with),
                p99(&self.without)
            ),
            format!(
                "{:<24} {:>18} {:>22}",
                "failed so far", self.with.failed, self.without.failed
            ),
            String::new(),
        ]);
        let hidden = self.events.len().saturating_sub(EVENTS_SHOWN);
        let shown = self.events.iter().skip(hidden).map(Event::line);
        lines.extend(shown.chain(std::iter::repeat(String::new())).take(EVENTS_SHOWN));
        lines
    }

    /// The moment in one line, for a log.
    pub fn line(&self) -> String {
        let shifted = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.risk >= 0.05 || endpoint.share > 0.0);
        let shifted: Vec<_> = shifted
            .map(|endpoint| {
                format!(
                    "{}: risk {:.2}, {:.0} % on its shadow",
                    endpoint.name,
                    endpoint.risk,
                    endpoint.share * 100.0
                )
            })
            .collect();
        format!(
            "{:>5.1} s  users' p99 {:>9} ({} {:>9}), failed {} ({})  {}",
            self.at_s,
            p99(&self.with),
            self.baseline,
            p99(&self.without),
            self.with.failed,
            self.without.failed,
            shifted.join("; "),
        )
    }
}

impl Event {
    /// The event in one line.
    pub fn line(&self) -> String {
        format!("{:>5.1} s  {}", self.at_s, self.text)
    }
}

fn p99(users: &UsersLine) -> String {
    users.now.map_or_else(
        || "-".to_owned(),
        |window| format!("{:.1} ms", f64::from(window.p99_us) / 1e3),
    )
}

fn endpoint(line: &EndpointLine) -> String {
    format!(
        "{:<10} {:>4.2}  {} {:>5.1} % {:>7.0} {:>8.0} {:>8.1} {:>7}  {}",
        line.name,
        line.risk,
        bar(line.share),
        line.share * 100.0,
        line.rps,
        line.shadow_rps,
        line.p99_ms,
        line.errors,
        line.phase,
    )
}

/// A share as a bar; the smallest share above none shows.
fn bar(share: f64) -> String {
    let cells = (share.clamp(0.0, 1.0) * BAR_WIDTH as f64).ceil();
    let filled = (0..BAR_WIDTH).take_while(|cell| (*cell as f64) < cells).count();
    format!("[{}{}]", "#".repeat(filled), ".".repeat(BAR_WIDTH - filled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::Span;

    fn picture(events: usize) -> Picture {
        let event = |n: usize| Event {
            at_s: n as f64,
            text: format!("event {n}"),
        };
        let window = Window {
            span: Span::default(),
            requests: 1_200,
            failed: 0,
            p50_us: 5_000,
            p99_us: 16_100,
        };
        Picture {
            at_s: 9.1,
            end_s: 60.0,
            title: "foreshade".into(),
            endpoints: vec![EndpointLine {
                name: "b".into(),
                risk: 0.97,
                share: 0.05,
                ..Default::default()
            }],
            with: UsersLine {
                now: Some(window),
                failed: 0,
            },
            without: UsersLine { now: None, failed: 3 },
            baseline: "no shift",
            events: (0..events).map(event).collect(),
        }
    }

    #[test]
    fn a_bar_shows_the_smallest_share_and_never_overflows() {
        assert_eq!(bar(0.0), format!("[{}]", ".".repeat(20)));
        assert_eq!(bar(0.001), format!("[#{}]", ".".repeat(19)));
        assert_eq!(bar(0.5), format!("[{}{}]", "#".repeat(10), ".".repeat(10)));
        assert_eq!(bar(7.0), format!("[{}]", "#".repeat(20)));
    }

    #[test]
    fn the_picture_keeps_its_height_and_the_latest_events() {
        let heights = [0, 3, 50].map(|events| picture(events).lines().len());
        assert_eq!(heights, [heights[0]; 3]);
        assert!(picture(50).lines().last().unwrap().ends_with("event 49"));
    }

    #[test]
    fn a_line_for_the_log_says_the_same() {
        let line = picture(0).line();
        assert!(
            line.contains("users' p99   16.1 ms (no shift         -), failed 0 (3)"),
            "{line}"
        );
        assert!(line.contains("b: risk 0.97, 5 % on its shadow"), "{line}");
    }
}
