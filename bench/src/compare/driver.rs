//! Who makes the load: our own generator, or a tool that others trust.
//!
//! A generator of one's own can be wrong in one's own favour, so the same case can be driven by wrk or h2load beside
//! it; the two should agree on what a contender costs. Both are external programs on the leash, and their report is
//! read from what they print.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::case::{Bodies, Question};
use crate::closed_loop::{self, Asking, STREAMS};
use crate::results::Protocol;
use crate::stage::family::CpuTime;
use crate::stage::process::{Child, Programs};

/// How much longer than asked a tool may take.
const OVERTIME: Duration = Duration::from_secs(20);

/// Who makes the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Driver {
    /// [`closed_loop`].
    #[value(name = "foreshade-bench")]
    Ours,
    /// A closed loop over HTTP/1.1.
    Wrk,
    /// A closed loop over HTTP/1.1 and HTTP/2.
    H2load,
}

/// What to ask, and where.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Where users connect.
    pub target: SocketAddr,
    /// What, how, how many at once, and how long.
    pub asking: Asking,
}

/// What was answered, and what it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Done {
    /// Requests answered with 200.
    pub requests: u64,
    /// Meanwhile.
    pub seconds: f64,
    /// CPU time of the contender meanwhile.
    pub cpu: CpuTime,
}

impl Driver {
    /// As it is called in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "foreshade-bench",
            Self::Wrk => "wrk",
            Self::H2load => "h2load",
        }
    }

    /// Whether it can put this question over this protocol.
    pub fn can(self, protocol: Protocol, question: Question) -> bool {
        match self {
            Self::Ours => true,
            Self::Wrk => {
                let speaks = matches!(protocol, Protocol::Http1 | Protocol::Https1 | Protocol::Tcp);
                speaks && matches!(question, Question::Serving(Bodies::Answered(_)))
            }
            Self::H2load => matches!(question, Question::Serving(Bodies::Answered(_))),
        }
    }

    /// Its program, if it needs one and it is there.
    fn program(self) -> Result<PathBuf> {
        let package = if self == Self::Wrk {
            "wrk"
        } else {
            "nghttp2-client"
        };
        installed(self.name(), package)
    }

    /// Why it cannot be used here, if it cannot.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Ours => None,
            Self::Wrk | Self::H2load => self.program().err().map(|error| error.to_string()),
        }
    }

    /// Asks, and reads the meter before and after. Logs go to `folder`.
    pub fn ask(
        self,
        programs: &Programs,
        work: &Work,
        folder: &Path,
        mut meter: impl FnMut() -> io::Result<CpuTime>,
    ) -> Result<Done> {
        if self == Self::Ours {
            let (done, before, after) = closed_loop::run(work.target, &work.asking, meter)?;
            let connections = work.asking.connections;
            ensure!(
                done.failed == 0,
                "{} of {connections} connections failed",
                done.failed
            );
            return Ok(Done {
                requests: done.requests,
                seconds: work.asking.length.as_secs_f64(),
                cpu: after.since(before),
            });
        }
        let (program, arguments) = (self.program()?, self.arguments(work));
        let mut child = Child::start(programs, self.name(), &program, &arguments, folder)?;
        if self == Self::H2load {
            // What it does before is neither counted by it nor by us.
            std::thread::sleep(work.asking.settling);
        }
        let before = meter()?;
        let printed = child.finish(work.asking.length + OVERTIME)?;
        Ok(Done {
            cpu: meter()?.since(before),
            requests: self.count(&printed)?,
            seconds: whole_seconds(work.asking.length) as f64,
        })
    }

    fn arguments(self, work: &Work) -> Vec<OsString> {
        let seconds = whole_seconds(work.asking.length);
        let body = work
            .asking
            .body_bytes
            .map_or_else(String::new, |bytes| format!("?bytes={bytes}"));
        let scheme = match work.asking.protocol {
            Protocol::Https1 | Protocol::H2 => "https",
            Protocol::Http1 | Protocol::H2c | Protocol::Tcp => "http",
        };
        let url = format!("{scheme}://{}/a{body}", work.target);
        let connections = work.asking.connections;
        let options = match (self, work.asking.protocol) {
            (Self::H2load, Protocol::H2 | Protocol::H2c) => {
                let clients = connections.div_ceil(STREAMS);
                format!("-t1 -c{clients} -m{STREAMS} -D{seconds}")
            }
            (Self::H2load, _) => format!("--h1 -t1 -c{connections} -m1 -D{seconds}"),
            _ => format!("-t1 -c{connections} -d{seconds}s"),
        };
        let mut words: Vec<OsString> = options.split(' ').map(Into::into).collect();
        if self == Self::H2load {
            words.push(format!("--warm-up-time={}ms", work.asking.settling.as_millis()).into());
        }
        words.push(url.into());
        words
    }

    /// How many requests it counted, if none failed.
    fn count(self, printed: &str) -> Result<u64> {
        let counted = match self {
            Self::Wrk => count_of_wrk(printed),
            Self::Ours | Self::H2load => count_of_h2load(printed),
        };
        match counted {
            Some((requests, 0)) if requests > 0 => Ok(requests),
            Some((requests, failed)) => bail!("{}: {failed} of {requests} requests failed", self.name()),
            None => bail!("{} said something else than expected:\n{printed}", self.name()),
        }
    }
}

/// Where a program is, or where it would come from.
pub(super) fn installed(name: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    found.with_context(|| format!("{name} is not installed; on Debian: apt-get install {package}"))
}

/// Tools are asked for whole seconds.
fn whole_seconds(length: Duration) -> u64 {
    length.as_secs().max(1)
}

/// Requests and failures, from `3119 requests in 1.02s` and lines that are there only where something failed.
fn count_of_wrk(printed: &str) -> Option<(u64, u64)> {
    let requests = printed
        .lines()
        .find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())?;
    let number_in = |line: &str| {
        let digits = line.split(|letter: char| !letter.is_ascii_digit());
        digits
            .filter_map(|digits| digits.parse::<u64>().ok())
            .sum::<u64>()
    };
    let troubles = ["Socket errors:", "Non-2xx or 3xx responses:"];
    let failed = printed
        .lines()
        .filter_map(|line| {
            troubles
                .iter()
                .find_map(|trouble| line.trim().strip_prefix(trouble))
        })
        // Digits of the status classes stand before the colon.
        .map(number_in)
        .sum();
    Some((requests, failed))
}

/// Requests and failures, from `requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout`.
fn count_of_h2load(printed: &str) -> Option<(u64, u64)> {
    let line = printed.lines().find_map(|line| line.strip_prefix("requests: "))?;
    let number = |what: &str| {
        let mut parts = line.split(", ");
        parts.find_map(|part| part.strip_suffix(what)?.trim().parse::<u64>().ok())
    };
    // Requests that were under way at the end are neither.
    Some((
        number("succeeded")?,
        number("failed")? + number("errored")? + number("timeout")?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reports_of_other_tools_are_understood() {
        let wrk = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 8 connections\n  Thread Stats   Avg\n\
                   \x20 3119 requests in 1.02s, 359.47KB read\nRequests/sec:   3046.19\n";
        assert_eq!(count_of_wrk(wrk), Some((3_119, 0)));
        let broken = format!(
            "{wrk}  Socket errors: connect 0, read 2, write 0, timeout 1\n  Non-2xx or 3xx responses: 7\n"
        );
        assert_eq!(count_of_wrk(&broken), Some((3_119, 10)));
        let h2load = "finished in 1.31s, 3000.00 req/s, 1MB/s\n\
                      requests: 3000 total, 3008 started, 3000 done, 2990 succeeded, 10 failed, 4 errored, 2 timeout\n";
        assert_eq!(count_of_h2load(h2load), Some((2_990, 16)));
        assert_eq!(count_of_h2load("unable to connect"), None);
        assert!(Driver::Wrk.count("unable to connect").is_err());
        assert!(
            Driver::Wrk
                .count(&broken)
                .unwrap_err()
                .to_string()
                .contains("10 of 3119")
        );
    }

    #[test]
    fn who_is_not_installed_is_named_with_where_to_get_it() {
        let why = installed("no-such-tool", "some-package").unwrap_err().to_string();
        assert_eq!(
            why,
            "no-such-tool is not installed; on Debian: apt-get install some-package"
        );
        assert!(installed("sh", "dash").is_ok());
    }

    #[test]
    fn tools_are_asked_for_the_same_work() {
        let work = |protocol| Work {
            target: "127.0.0.1:8080".parse().unwrap(),
            asking: Asking {
                protocol,
                connections: 64,
                body_bytes: Some(100),
                posted_bytes: None,
                anew: false,
                rate: None,
                settling: Duration::from_millis(500),
                length: Duration::from_secs(3),
            },
        };
        let words = |driver: Driver, protocol| {
            let words = driver.arguments(&work(protocol));
            words.join(std::ffi::OsStr::new(" ")).into_string().unwrap()
        };
        assert_eq!(
            words(Driver::Wrk, Protocol::Http1),
            "-t1 -c64 -d3s http://127.0.0.1:8080/a?bytes=100"
        );
        assert_eq!(
            words(Driver::H2load, Protocol::H2),
            "-t1 -c8 -m8 -D3 --warm-up-time=500ms https://127.0.0.1:8080/a?bytes=100"
        );
    }
}
