//! What the proxy logs about itself, and how that is changed while it runs.
//!
//! The filter starts as `RUST_LOG` or [`USUAL`], and an operator may replace it, for good or for a time: a proxy that was
//! left at `trace` by somebody who went home is a second incident. Events that the filter refuses cost one look at a static
//! either way: the callsites know what they are refused.
//!
//! pingora logs through the `log` crate, which has a limit of its own; it follows the filter.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// The filter where nobody says otherwise.
pub const USUAL: &str = "info,pingora_core=warn";

/// Longest filter: a few dozen directives.
const FILTER_BYTES_MAX: usize = 1024;

/// The layer that filters.
pub type Filter = reload::Layer<EnvFilter, Registry>;

/// The filter's handle. All clones speak of the same one.
#[derive(Clone, Debug)]
pub struct Verbosity {
    handle: reload::Handle<EnvFilter, Registry>,
    /// Taken by operators only, never by whoever logs.
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    usual: String,
    now: String,
    falls_back: Option<(Instant, AbortHandle)>,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The filter that holds now.
    pub filter: String,
    /// The filter that the process started with.
    pub usual: String,
    /// How long until the usual one holds again; `None` where it does, or where this one holds for good.
    pub falls_back_in: Option<Duration>,
}

impl Verbosity {
    /// A filter and its handle. A filter that cannot be read is told on standard error, and the usual one taken.
    pub fn new(wanted: Option<&str>) -> (Filter, Self) {
        let (filter, usual) = match wanted.map(|text| (parse(text), text)) {
            Some((Ok(filter), text)) => (filter, text),
            _ => (EnvFilter::new(USUAL), USUAL),
        };
        let (layer, handle) = reload::Layer::new(filter);
        let state = State {
            usual: usual.to_owned(),
            now: usual.to_owned(),
            falls_back: None,
        };
        let state = Arc::new(Mutex::new(state));
        (layer, Self { handle, state })
    }

    /// Starts the log of this process on standard error.
    pub fn start(json: bool) -> Self {
        let wanted = std::env::var("RUST_LOG").ok();
        let (filter, verbosity) = Self::new(wanted.as_deref());
        let log = fmt::layer().with_writer(std::io::stderr);
        let registry = tracing_subscriber::registry().with(filter);
        match json {
            true => registry.with(log.json()).init(),
            false => registry.with(log).init(),
        }
        if let Some(Err(why)) = wanted.as_deref().map(parse) {
            tracing::warn!(why, "RUST_LOG cannot be read");
        }
        verbosity
    }

    /// What is logged now.
    pub fn standing(&self) -> Standing {
        let state = self.state();
        let limit = state.falls_back.as_ref().map(|(at, _)| *at);
        Standing {
            filter: state.now.clone(),
            usual: state.usual.clone(),
            falls_back_in: limit.map(|at| at.saturating_duration_since(Instant::now())),
        }
    }

    /// Replaces the filter, for good or for a time.
    ///
    /// # Errors
    /// What is wrong with the filter; then nothing has changed.
    pub fn set(&self, filter: &str, ttl: Option<Duration>) -> Result<(), String> {
        no_bare_target(filter)?;
        let parsed = parse(filter)?;
        let mut state = self.state();
        self.handle.reload(parsed).map_err(|error| error.to_string())?;
        follow();
        filter.clone_into(&mut state.now);
        if let Some((_, before)) = state.falls_back.take() {
            before.abort();
        }
        state.falls_back = ttl.map(|ttl| {
            let verbosity = self.clone();
            let task = tokio::spawn(async move {
                tokio::time::sleep(ttl).await;
                verbosity.fall_back();
            });
            (Instant::now() + ttl, task.abort_handle())
        });
        Ok(())
    }

    fn fall_back(&self) {
        let mut state = self.state();
        state.falls_back = None;
        // What held once can be read again.
        if let Ok(filter) = parse(&state.usual)
            && self.handle.reload(filter).is_ok()
        {
            follow();
            state.now = state.usual.clone();
            tracing::info!(filter = state.now, "log filter has fallen back");
        }
    }

    /// No code that holds it can panic, and what it holds is whole at any time.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A word that is no level names a target, and everything else would fall silent: whoever writes `dbug` does not want that.
fn no_bare_target(filter: &str) -> Result<(), String> {
    let bare =
        |directive: &&str| !directive.contains(['=', '[']) && directive.parse::<LevelFilter>().is_err();
    match filter.split(',').map(str::trim).find(bare) {
        Some(word) => Err(format!("{word:?} is no level; write a level, or target=level")),
        None => Ok(()),
    }
}

/// Without regular expressions: they would match what users send.
fn parse(text: &str) -> Result<EnvFilter, String> {
    if text.trim().is_empty() || text.len() > FILTER_BYTES_MAX {
        return Err(format!("a filter has 1 to {FILTER_BYTES_MAX} bytes"));
    }
    EnvFilter::builder()
        .with_regex(false)
        .parse(text)
        .map_err(|error| error.to_string())
}

/// Lets `log` pass what the filter may want.
fn follow() {
    log::set_max_level(match LevelFilter::current() {
        LevelFilter::OFF => log::LevelFilter::Off,
        LevelFilter::ERROR => log::LevelFilter::Error,
        LevelFilter::WARN => log::LevelFilter::Warn,
        LevelFilter::INFO => log::LevelFilter::Info,
        LevelFilter::DEBUG => log::LevelFilter::Debug,
        LevelFilter::TRACE => log::LevelFilter::Trace,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_filter_holds_for_its_time_and_then_the_usual_one_does() {
        let (layer, verbosity) = Verbosity::new(Some("warn"));
        let _alive = tracing_subscriber::registry().with(layer);
        verbosity
            .set("debug,hyper=off", Some(Duration::from_secs(60)))
            .unwrap();
        assert_eq!(verbosity.standing().filter, "debug,hyper=off");
        assert!(verbosity.standing().falls_back_in.is_some());
        tokio::time::sleep(Duration::from_secs(61)).await;
        let expected = Standing {
            filter: "warn".to_owned(),
            usual: "warn".to_owned(),
            falls_back_in: None,
        };
        assert_eq!(verbosity.standing(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_order_replaces_the_time_of_an_earlier_one() {
        let (layer, verbosity) = Verbosity::new(None);
        let _alive = tracing_subscriber::registry().with(layer);
        verbosity.set("debug", Some(Duration::from_secs(60))).unwrap();
        verbosity.set("trace", None).unwrap();
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(verbosity.standing().filter, "trace");
    }

    #[tokio::test]
    async fn a_filter_that_cannot_be_read_changes_nothing() {
        let (layer, verbosity) = Verbosity::new(None);
        let _alive = tracing_subscriber::registry().with(layer);
        for wrong in [
            "",
            " ",
            "loud",
            "info,loud",
            "a=b=c",
            "[",
            &"a".repeat(FILTER_BYTES_MAX + 1),
        ] {
            assert!(verbosity.set(wrong, None).is_err(), "{wrong:?}");
        }
        assert_eq!(verbosity.standing().filter, USUAL);
    }
}
