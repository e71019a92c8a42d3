//! From what stands on the command line to what the load is to do: every contradiction is found here, before the first
//! connection.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Uri;

use super::Arguments;
use crate::load::line::Dialect;
use crate::load::mix::{BODY_BYTES_MAX, Mix, has_body};
use crate::load::schedule::{Rate, StepRates};
use crate::load::tls::{Tls, Trust};
use crate::load::{Closed, LoadOptions};
use crate::quantity;
use crate::results::Protocol;

/// Longest load: a day.
const LENGTH_MAX: Duration = Duration::from_secs(86_400);

/// Length where nothing says otherwise.
const LENGTH: Duration = Duration::from_secs(10);

/// Longest deadline: as many seconds are kept open.
const DEADLINE_MAX: Duration = Duration::from_secs(600);

/// Connections where nothing says otherwise: of HTTP/2 few, for each carries many requests.
const CONNECTIONS: usize = 1_024;
const CONNECTIONS_HTTP2: usize = 4;

/// Most requests at the same time.
const IN_FLIGHT_MAX: usize = 65_536;

/// Descriptors that the load needs beside its connections.
const OTHER_DESCRIPTORS: usize = 64;

/// Requests per second where nothing says otherwise.
const RATE: f64 = 1_000.0;

/// A load that can be made, as soon as its server has an address.
#[derive(Debug)]
pub(super) struct Asked {
    /// Everything but `target`.
    pub(super) options: LoadOptions,
    /// Host and port.
    pub(super) server: String,
    /// As it was named.
    pub(super) target: String,
    pub(super) protocol: Protocol,
}

/// A target taken apart.
struct Target {
    scheme: Scheme,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    Tcp,
}

impl Asked {
    pub(super) fn new(arguments: &Arguments) -> Result<Self> {
        let text = arguments
            .target
            .as_deref()
            .or(arguments.url.as_deref())
            .unwrap_or("http://127.0.0.1:8080");
        let target = Target::parse(text)?;
        let tcp = target.scheme == Scheme::Tcp;
        check_scheme(arguments, &target)?;
        let (rate, shape) = rate(arguments)?;
        let length = arguments.seconds.or(shape).unwrap_or(LENGTH);
        ensure!(
            !length.is_zero() && length <= LENGTH_MAX,
            "--seconds must be above 0 and at most a day"
        );
        let warm_up = arguments.warm_up;
        let deadline = arguments.deadline;
        ensure!(
            !deadline.is_zero() && deadline <= DEADLINE_MAX,
            "--deadline must be above 0 and at most 10 minutes"
        );
        let mut options = LoadOptions::steady(([127, 0, 0, 1], 0).into(), 0.0, length);
        (options.rate, options.arrivals) = (rate, arguments.arrivals);
        (options.warm_up, options.deadline) = (warm_up, deadline);
        (options.seed, options.first_number) = (arguments.seed, arguments.first_number);
        (options.keep_alive, options.records) = (!arguments.new_connections, false);
        options.mix = mix(arguments, &target)?;
        options.dialect = match (tcp, arguments.http2) {
            (true, _) => Dialect::Tcp {
                answer_bytes: arguments.answer_bytes,
            },
            (false, true) => Dialect::Http2 {
                streams: arguments.streams.into(),
            },
            (false, false) => Dialect::Http1,
        };
        places(arguments, &mut options)?;
        if target.scheme == Scheme::Https {
            let trust = match (&arguments.ca, arguments.insecure) {
                (Some(file), _) => Trust::File(file),
                (None, true) => Trust::Anybody,
                (None, false) => Trust::System,
            };
            options.tls = Some(Tls::new(
                target.host.trim_matches(['[', ']']),
                trust,
                arguments.http2,
            )?);
        }
        let protocol = match (target.scheme, arguments.http2) {
            (Scheme::Http, false) => Protocol::Http1,
            (Scheme::Http, true) => Protocol::H2c,
            (Scheme::Https, false) => Protocol::Https1,
            (Scheme::Https, true) => Protocol::H2,
            (Scheme::Tcp, _) => Protocol::Tcp,
        };
        Ok(Self {
            options,
            server: format!("{}:{}", target.host, target.port),
            target: text.to_owned(),
            protocol,
        })
    }
}

impl Target {
    /// `http://host:port/path`, `https://...`, `tcp://host:port`, or `host:port` for plain HTTP.
    fn parse(text: &str) -> Result<Self> {
        let example =
            "expected for example http://127.0.0.1:8080/path, https://shop.example or tcp://127.0.0.1:7000";
        let whole = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let uri: Uri = whole
            .parse()
            .with_context(|| format!("{text:?} is not a target; {example}"))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some("tcp") => Scheme::Tcp,
            _ => bail!("{text:?} is not a target that can be loaded; {example}"),
        };
        let authority = uri
            .authority()
            .with_context(|| format!("{text:?} names no server; {example}"))?;
        ensure!(
            !authority.as_str().contains('@'),
            "{text:?}: put what authenticates you into a --header"
        );
        let port = match (authority.port(), scheme) {
            (Some(port), _) => port.as_u16(),
            (None, Scheme::Http) => 80,
            (None, Scheme::Https) => 443,
            (None, Scheme::Tcp) => bail!("{text:?} names no port; {example}"),
        };
        ensure!(port > 0, "{text:?}: nobody listens on port 0");
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            scheme,
            host: authority.host().to_owned(),
            port,
            authority: authority.to_string(),
            path: if path.is_empty() { "/" } else { path }.to_owned(),
        })
    }
}

/// What does not go together with the kind of target.
fn check_scheme(arguments: &Arguments, target: &Target) -> Result<()> {
    let https = target.scheme == Scheme::Https;
    ensure!(
        https || !arguments.insecure && arguments.ca.is_none(),
        "--insecure and --ca are for https:// targets"
    );
    if target.scheme != Scheme::Tcp {
        ensure!(
            arguments.answer_bytes.is_none(),
            "--answer-bytes is for tcp:// targets"
        );
        return Ok(());
    }
    let of_http = [
        ("--http2", arguments.http2),
        ("--path", !arguments.paths.is_empty()),
        ("--method", arguments.method.is_some()),
        ("--post", arguments.post.is_some()),
        ("--header", !arguments.headers.is_empty()),
        ("--users", arguments.users.is_some()),
    ];
    if let Some((option, _)) = of_http.iter().find(|(_, given)| *given) {
        bail!("{option} is for HTTP; a tcp:// target is sent bytes (--body) and nothing else");
    }
    Ok(())
}

/// The rate, and how long its shape takes if it has one.
fn rate(arguments: &Arguments) -> Result<(Rate, Option<Duration>)> {
    if let Some((from, to, length)) = arguments.ramp {
        return Ok((Rate::Ramp { from, to, length }, Some(length)));
    }
    if let Some((rates, each)) = &arguments.steps {
        let count = u32::try_from(rates.len()).unwrap_or(u32::MAX);
        let rates = StepRates::new(rates).context("too many steps")?;
        return Ok((Rate::Steps { rates, each: *each }, Some(*each * count)));
    }
    Ok((Rate::Steady(arguments.rate.unwrap_or(RATE)), None))
}

fn mix(arguments: &Arguments, target: &Target) -> Result<Mix> {
    let method = arguments.method.clone().unwrap_or_else(|| "GET".to_owned());
    let post_share = arguments.post.unwrap_or(0.0);
    let tcp = target.scheme == Scheme::Tcp;
    if let Some(body) = &arguments.body {
        ensure!(
            tcp || has_body(&method) || post_share > 0.0,
            "{method} has no body; use --post 10% or --method POST"
        );
        ensure!(*body.end() <= BODY_BYTES_MAX, "--body must be at most 16MiB");
        ensure!(
            !tcp || *body.start() > 0,
            "a tcp:// target must be sent something"
        );
    }
    let mut paths = arguments.paths.clone();
    if paths.is_empty() {
        paths.push((target.path.clone(), 1.0));
    } else {
        ensure!(
            target.path == "/",
            "a path stands in the target and in --path; leave one of the two out"
        );
    }
    Ok(Mix {
        // A line of raw TCP sends the body of every request.
        method: if tcp { "POST".to_owned() } else { method },
        authority: target.authority.clone(),
        headers: arguments.headers.clone(),
        users: arguments.users.unwrap_or(0),
        post_share,
        body_bytes: arguments.body.clone().unwrap_or(100..=100),
        paths,
    })
}

/// How many requests may be under way, and over how many connections.
fn places(arguments: &Arguments, options: &mut LoadOptions) -> Result<()> {
    ensure!(
        arguments.closed != Some(0),
        "a closed loop of nobody asks nothing"
    );
    let closed = arguments.closed.map(|lines| Closed {
        lines,
        rate: arguments.rate,
    });
    let default = match (options.dialect, closed) {
        (Dialect::Http2 { .. }, Some(closed)) => closed.lines.min(CONNECTIONS_HTTP2),
        (Dialect::Http2 { .. }, None) => CONNECTIONS_HTTP2,
        (_, Some(closed)) => closed.lines,
        (_, None) => CONNECTIONS,
    };
    let connections = arguments.connections.unwrap_or(default);
    let streams = match options.dialect {
        Dialect::Http2 { streams } => streams,
        Dialect::Http1 | Dialect::Tcp { .. } => 1,
    };
    let most = connections.saturating_mul(streams);
    ensure!(connections > 0, "a load without connections asks nothing");
    ensure!(
        most <= IN_FLIGHT_MAX,
        "{most} requests at the same time are more than {IN_FLIGHT_MAX}"
    );
    if let Some(closed) = closed {
        ensure!(
            closed.lines <= most,
            "--closed {} does not fit into {connections} connections with one request each at a time{}",
            closed.lines,
            if streams > 1 {
                format!(" and {streams} streams")
            } else {
                String::new()
            }
        );
    }
    if let Some(descriptors) = descriptors_max()
        && connections + OTHER_DESCRIPTORS > descriptors
    {
        bail!(
            "{connections} connections need more file descriptors than the {descriptors} that this process may have: \
             raise `ulimit -n`, or lower --connections"
        );
    }
    (options.closed, options.connections_max) = (closed, connections);
    Ok(())
}

/// How many files this process may open, where the system says so.
fn descriptors_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `/a=5`: a path and its weight, which is 1 where it is left out. What stands behind the last `=` is a weight if it is a
/// number.
pub(super) fn path(text: &str) -> Result<(String, f64), String> {
    let weighted = text
        .rsplit_once('=')
        .and_then(|(path, weight)| Some((path, weight.parse::<f64>().ok()?)));
    let (path, weight) = weighted.unwrap_or((text, 1.0));
    if !path.starts_with('/') {
        return Err(format!(
            "{path:?} is not a path; expected for example /a, or /a=5 with a weight"
        ));
    }
    if !(weight.is_finite() && weight > 0.0) {
        return Err(format!("{weight} is not a weight: it must be above 0"));
    }
    Ok((path.to_owned(), weight))
}

/// `name: value`.
pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| format!("{text:?} is not a header; expected for example 'accept: text/html'"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// `100..1000/30s`: from one rate to another.
pub(super) fn ramp(text: &str) -> Result<(f64, f64, Duration), String> {
    let broken = || format!("{text:?} is not a ramp; expected for example 100..1000/30s");
    let (rates, length) = text.split_once('/').ok_or_else(broken)?;
    let (from, to) = rates.split_once("..").ok_or_else(broken)?;
    // From or to nothing is a ramp, too.
    let rate = |text: &str| {
        if text.trim() == "0" {
            Ok(0.0)
        } else {
            quantity::rate(text)
        }
    };
    let (from, to, length) = (rate(from)?, rate(to)?, quantity::duration(length)?);
    if length.is_zero() || from + to <= 0.0 {
        return Err(broken());
    }
    Ok((from, to, length))
}

/// `100,200,400/10s`: one rate after another.
pub(super) fn steps(text: &str) -> Result<(Vec<f64>, Duration), String> {
    let broken = || format!("{text:?} is no row of steps; expected for example 100,200,400/10s");
    let (rates, each) = text.split_once('/').ok_or_else(broken)?;
    let rates = rates
        .split(',')
        .map(quantity::rate)
        .collect::<Result<Vec<_>, _>>()?;
    if rates.len() > StepRates::MAX {
        return Err(format!("{} steps are more than {}", rates.len(), StepRates::MAX));
    }
    let each = quantity::duration(each)?;
    if each.is_zero() {
        return Err(broken());
    }
    Ok((rates, each))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn asked(line: &str) -> Result<Asked> {
        let words = std::iter::once("load").chain(line.split_whitespace());
        Asked::new(&CommandLine::try_parse_from(words)?.arguments)
    }

    #[test]
    fn a_command_line_becomes_a_load() {
        let load = asked(
            "https://shop.example:8443 --insecure --http2 --streams 10 --connections 2 --rate 60k --arrivals constant \
             --seconds 5 --warm-up 500ms --path /a=5 --path /b?x=1=2 --path /c --post 10% --body 100B..4KiB --users 50",
        )
        .unwrap();
        assert_eq!(
            (load.server.as_str(), load.protocol),
            ("shop.example:8443", Protocol::H2)
        );
        let options = load.options;
        assert_eq!(options.dialect, Dialect::Http2 { streams: 10 });
        assert_eq!(
            (options.connections_max, options.rate),
            (2, Rate::Steady(60_000.0))
        );
        assert_eq!(
            (options.length, options.warm_up),
            (Duration::from_secs(5), Duration::from_millis(500))
        );
        let paths =
            [("/a", 5.0), ("/b?x=1", 2.0), ("/c", 1.0)].map(|(path, weight)| (path.to_owned(), weight));
        assert_eq!(
            (options.mix.paths, options.mix.body_bytes),
            (paths.to_vec(), 100..=4_096)
        );
        assert_eq!(
            (options.mix.users, options.mix.authority.as_str()),
            (50, "shop.example:8443")
        );
        assert!(options.tls.is_some() && !options.records);
    }

    #[test]
    fn a_shape_is_as_long_as_it_says_unless_seconds_say_otherwise() {
        assert_eq!(
            asked("--ramp 0..1000/30s").unwrap().options.length,
            Duration::from_secs(30)
        );
        let steps = asked("--steps 100,200,400/10s").unwrap().options;
        assert_eq!(
            (steps.length, steps.rate.at(Duration::from_secs(25))),
            (Duration::from_secs(30), 400.0)
        );
        assert_eq!(
            asked("--ramp 0..1000/30s --seconds 5").unwrap().options.length,
            Duration::from_secs(5)
        );
    }

    #[test]
    fn a_target_may_be_short() {
        assert_eq!(asked("127.0.0.1:9001").unwrap().server, "127.0.0.1:9001");
        assert_eq!(
            asked("http://shop.example/x?y=1").unwrap().options.mix.paths,
            [("/x?y=1".to_owned(), 1.0)]
        );
        assert_eq!(asked("http://shop.example").unwrap().server, "shop.example:80");
        assert_eq!(
            asked("--target https://[::1] --insecure").unwrap().server,
            "[::1]:443"
        );
        let tcp = asked("tcp://127.0.0.1:7000 --body 64B --closed 8").unwrap();
        assert_eq!((tcp.protocol, tcp.options.connections_max), (Protocol::Tcp, 8));
    }

    #[test]
    fn a_closed_loop_has_as_many_connections_as_it_needs() {
        assert_eq!(asked("--closed 64").unwrap().options.connections_max, 64);
        assert_eq!(asked("--closed 64 --http2").unwrap().options.connections_max, 4);
    }

    #[test]
    fn what_cannot_be_is_refused_and_named() {
        let refused = [
            ("ftp://x", "is not a target"),
            ("http://", "is not a target"),
            ("tcp://127.0.0.1", "names no port"),
            ("http://me@x", "--header"),
            ("--rate 0", "is not a rate"),
            ("--rate 1e9", "is not a rate"),
            ("--rate 5000000", "more than one machine makes"),
            ("--seconds 0", "--seconds"),
            ("--seconds 25h", "at most a day"),
            ("--deadline 0", "--deadline"),
            ("--ramp 1..2", "is not a ramp"),
            ("--ramp 0..0/1s", "is not a ramp"),
            ("--steps 1,x/1s", "is not a rate"),
            ("--rate 10 --ramp 1..2/3s", "cannot be used with"),
            ("--path a", "is not a path"),
            ("--path /a=0", "is not a weight"),
            ("--post 10", "is not a part"),
            ("--body 10B", "GET has no body"),
            ("--body 1KiB..10B --post 1%", "begins above its end"),
            ("--body 20MiB --post 1%", "at most 16MiB"),
            ("--header x", "is not a header"),
            ("--insecure", "https://"),
            ("--answer-bytes 5", "tcp://"),
            ("tcp://127.0.0.1:1 --http2", "--http2 is for HTTP"),
            ("--connections 0", "without connections"),
            ("--connections 70000", "more than 65536"),
            ("--closed 5 --connections 2", "does not fit"),
            ("--closed 0", "nobody"),
            ("http://x/a --path /b", "leave one of the two out"),
            ("--slo p99", "has no bound"),
            ("http://a --target http://b", "cannot be used with"),
        ];
        for (line, part) in refused {
            let error = format!("{:#}", asked(line).expect_err(line));
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn every_option_of_http_is_refused_for_raw_tcp() {
        for option in [
            "--path /a",
            "--method PUT",
            "--post 1%",
            "--header a:b",
            "--users 5",
        ] {
            let error = asked(&format!("tcp://127.0.0.1:1 {option}"))
                .unwrap_err()
                .to_string();
            assert!(error.contains("is for HTTP"), "{option}: {error}");
        }
    }
}
