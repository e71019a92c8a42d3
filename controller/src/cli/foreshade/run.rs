//! What each verb does: a call or two, and a text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::Method;
use clap::CommandFactory as _;
use foreshade_contract::PairId;
use futures_util::StreamExt as _;
use serde::Serialize;
use serde_json::{Value as Json, json};
use tokio::time::{Instant, sleep};

use super::arguments::{Arguments, Command, Drill as DrillVerb, Gate, OfGate, Pages, Plain, Running, Said};
use super::ask::{AskError, Controller, actor};
use super::screen::Screen;
use super::tree;
use super::watch::{Absence, LOOK, News};
use crate::config;
use crate::operator::events::Event;
use crate::operator::simulation::{Ordered, Simulation, Supposed};
use crate::operator::view::{Analysis, AuditEntry, Change, Drill, Health, Outcome, PairDetail, PairSummary};

/// Carries the command line out. The value is the exit code.
///
/// # Errors
/// When the controller refuses or is not there, or nothing can be printed.
pub async fn run(arguments: Arguments, screen: &mut Screen) -> Result<u8, AskError> {
    let Arguments {
        server,
        json,
        command,
    } = arguments;
    match command {
        Command::Lint { file } => return lint(&file, screen),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "foreshade", &mut script);
            screen.show(&String::from_utf8_lossy(&script))?;
            return Ok(0);
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Arguments::command()).render(&mut page)?;
            screen.show(&String::from_utf8_lossy(&page))?;
            return Ok(0);
        }
        _ => {}
    }
    let mut session = Session {
        controller: Controller::new(server)?,
        screen,
        json,
    };
    session.carry_out(command).await
}

fn lint(file: &std::path::Path, screen: &mut Screen) -> Result<u8, AskError> {
    match config::load(file) {
        Ok(config) => {
            screen.show(&format!(
                "{}: well ({} pairs)",
                file.display(),
                config.pairs.len()
            ))?;
            Ok(0)
        }
        Err(mistakes) => {
            screen.show(&mistakes.to_string())?;
            Ok(1)
        }
    }
}

struct Session<'a> {
    controller: Controller,
    screen: &'a mut Screen,
    json: bool,
}

impl Session<'_> {
    async fn carry_out(&mut self, command: Command) -> Result<u8, AskError> {
        match command {
            Command::List { watch } => self.list(watch).await,
            Command::Get { pair, watch } => self.get(&pair.pair, watch).await,
            Command::Status { pair, watch, timeout } => self.status(&pair.pair, watch, timeout).await,
            Command::Explain { pair } => {
                let analysis: Option<Analysis> = self
                    .controller
                    .get(&format!("{}/analysis", path(&pair.pair)))
                    .await?;
                let detail: PairDetail = self.controller.get(&path(&pair.pair)).await?;
                let judged = tree::explained(&pair.pair.to_string(), analysis.as_ref(), self.screen);
                let copies = tree::mirrored(&detail, self.screen);
                self.show(&analysis, &(judged + &copies + &tree::placed(&detail)))
            }
            Command::History { pair, page } => {
                let path = format!("{}/history?{}", path(&pair.pair), query(&page));
                let changes: Vec<Change> = self.controller.get(&path).await?;
                let text = tree::history(&changes, now_ms(), self.screen);
                self.show(&changes, &text)
            }
            Command::Audit(page) => {
                let entries: Vec<AuditEntry> = self
                    .controller
                    .get(&format!("/v1/audit?{}", query(&page)))
                    .await?;
                let text = tree::audit(&entries, now_ms(), self.screen);
                self.show(&entries, &text)
            }
            Command::Events { pair } => self.events(pair.as_ref()).await,
            Command::Drill(drill) => self.drill(drill).await,
            Command::Simulate {
                pair,
                suppose,
                order,
                within,
            } => {
                let question = simulated(suppose, order, within);
                let path = format!("{}/simulation?{question}", path(&pair.pair));
                let simulation: Simulation = self.controller.get(&path).await?;
                let text = tree::simulation(&simulation, self.screen);
                self.show(&simulation, &text)
            }
            order => self.order(order).await,
        }
    }

    async fn order(&mut self, command: Command) -> Result<u8, AskError> {
        match command {
            Command::Promote { pair, full, said } => {
                self.post(
                    &format!("{}/promote", path(&pair.pair)),
                    json!({ "full": full }),
                    &said,
                )
                .await
            }
            Command::Abort(plain) => self.plain("abort", plain).await,
            Command::Pause(plain) => self.plain("pause", plain).await,
            Command::Resume(plain) => self.plain("resume", plain).await,
            Command::Retry(plain) => self.plain("retry", plain).await,
            Command::Undo { pair, to, said } => {
                let body = to.map_or(json!({}), |to| json!({ "to": to }));
                self.post(&format!("{}/undo", path(&pair.pair)), body, &said)
                    .await
            }
            Command::Freeze(plain) => self.plain("freeze", plain).await,
            Command::Unfreeze(plain) => self.plain("unfreeze", plain).await,
            Command::Set {
                what,
                pair,
                value,
                ttl,
                said,
            } => {
                let body = json!({ "what": what, "value": value, "ttl": format!("{}ms", ttl.as_millis()) });
                self.post(&format!("{}/override", path(&pair.pair)), body, &said)
                    .await
            }
            Command::Clear { what, pair, said } => {
                let path = format!("{}/override/{}", path(&pair.pair), what);
                self.delete(&path, &said).await
            }
            Command::Waive {
                rule,
                pair,
                ttl,
                said,
            } => {
                let body = json!({ "rule": rule, "ttl": format!("{}ms", ttl.as_millis()) });
                self.post(&format!("{}/waive", path(&pair.pair)), body, &said)
                    .await
            }
            Command::Restore { rule, pair, said } => {
                let path = format!("{}/waive/{}", path(&pair.pair), rule);
                self.delete(&path, &said).await
            }
            Command::Gate(Gate::Approve(gate)) => self.gate("approve", gate).await,
            Command::Gate(Gate::Deny(gate)) => self.gate("deny", gate).await,
            // What only looks has been shown by now.
            _ => Ok(0),
        }
    }

    async fn plain(&mut self, verb: &str, plain: Plain) -> Result<u8, AskError> {
        self.post(
            &format!("{}/{verb}", path(&plain.pair.pair)),
            json!({}),
            &plain.said,
        )
        .await
    }

    async fn gate(&mut self, verb: &str, of: OfGate) -> Result<u8, AskError> {
        let path = format!("{}/gates/{}/{verb}", path(&of.pair.pair), of.gate);
        self.post(&path, json!({}), &of.said).await
    }

    /// Ends something: actor and reason go with it.
    async fn delete(&mut self, path: &str, said: &Said) -> Result<u8, AskError> {
        let actor = actor(said)?;
        let query = format!(
            "actor={}&reason={}",
            escaped(actor.as_str()),
            escaped(said.reason.as_str())
        );
        let trial = if said.dry_run { "&dry_run=1" } else { "" };
        let path = format!("{path}?{query}{trial}");
        let outcome = self
            .controller
            .order(Method::DELETE, &path, &json!({}), said)
            .await?;
        self.ordered(&outcome)
    }

    /// Orders something: actor and reason go with it.
    async fn post(&mut self, path: &str, mut body: Json, said: &Said) -> Result<u8, AskError> {
        let actor = actor(said)?;
        if let Some(keys) = body.as_object_mut() {
            keys.insert("actor".to_owned(), json!(actor));
            keys.insert("reason".to_owned(), json!(said.reason));
        }
        let trial = if said.dry_run { "?dry_run=1" } else { "" };
        let outcome = self
            .controller
            .order(Method::POST, &format!("{path}{trial}"), &body, said)
            .await?;
        self.ordered(&outcome)
    }

    fn ordered(&mut self, outcome: &Outcome) -> Result<u8, AskError> {
        let trial = if outcome.dry_run {
            " (dry run: nothing was done)"
        } else {
            ""
        };
        let Outcome {
            pair,
            sentence,
            state,
            generation,
            ..
        } = outcome;
        let drill = outcome
            .drill
            .map(|id| format!(", drill {id}"))
            .unwrap_or_default();
        let text = format!("{pair}: {sentence}{trial}\nnow {state} at generation {generation}{drill}\n");
        self.show(outcome, &text)
    }

    fn show(&mut self, value: &impl Serialize, text: &str) -> Result<u8, AskError> {
        if self.json {
            // What came as JSON goes as JSON.
            let value = serde_json::to_string_pretty(value).unwrap_or_default();
            self.screen.show(&value)?;
        } else {
            self.screen.show(text)?;
        }
        Ok(0)
    }

    async fn list(&mut self, watch: bool) -> Result<u8, AskError> {
        let mut news = self.news("/v1/events", watch).await?;
        let mut absence = Absence::default();
        loop {
            let asked = self.controller.get("/v1/pairs").await;
            let Some(pairs): Option<Vec<PairSummary>> = absence.bear(asked, watch, None).await? else {
                continue;
            };
            let text = tree::list(&pairs, now_ms(), self.screen);
            let Some(news) = &mut news else {
                return self.show(&pairs, &text);
            };
            self.screen.redraw(&text)?;
            news.wait().await;
        }
    }

    async fn get(&mut self, pair: &PairId, watch: bool) -> Result<u8, AskError> {
        let path = path(pair);
        let mut news = self.news(&format!("{path}/events"), watch).await?;
        let mut absence = Absence::default();
        loop {
            let asked = self.controller.get(&path).await;
            let Some(detail): Option<PairDetail> = absence.bear(asked, watch, None).await? else {
                continue;
            };
            let text = tree::pair(&detail, now_ms(), self.screen);
            let Some(news) = &mut news else {
                return self.show(&detail, &text);
            };
            self.screen.redraw(&text)?;
            news.wait().await;
        }
    }

    async fn news(&self, path: &str, watch: bool) -> Result<Option<News>, AskError> {
        if !watch {
            return Ok(None);
        }
        let body = self.controller.listen(path, None).await?;
        Ok(Some(News::of(body)))
    }

    async fn status(&mut self, pair: &PairId, watch: bool, limit: Option<Duration>) -> Result<u8, AskError> {
        let path = path(pair);
        let until = limit.map(|limit| Instant::now() + limit);
        let (mut shown, mut absence) = (None, Absence::default());
        loop {
            let asked = self.controller.get(&path).await;
            let Some(detail): Option<PairDetail> = absence.bear(asked, watch, until).await? else {
                continue;
            };
            let summary = &detail.summary;
            let now = (summary.health, summary.state.clone(), summary.share_set.to_bits());
            if shown.as_ref() != Some(&now) {
                let share = summary.share_set * 100.0;
                let text = format!(
                    "{}: {} ({}, {share:.2}%): {}",
                    summary.pair, summary.health, summary.state, summary.reason
                );
                self.show(summary, &text)?;
                shown = Some(now);
            }
            match summary.health {
                Health::Healthy => return Ok(0),
                Health::Degraded => return Ok(1),
                Health::Progressing | Health::Paused => {}
            }
            if !watch || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(if summary.health == Health::Paused { 3 } else { 2 });
            }
            sleep(LOOK).await;
        }
    }

    async fn events(&mut self, pair: Option<&PairId>) -> Result<u8, AskError> {
        let path = pair.map_or("/v1/events".to_owned(), |pair| format!("{}/events", path(pair)));
        let (mut last, mut absence) = (None, Absence::default());
        loop {
            let listened = self.controller.listen(&path, last).await;
            let Some(body) = absence.bear(listened, true, None).await? else {
                continue;
            };
            let mut stream = body.into_data_stream();
            let mut text = String::new();
            while let Some(Ok(bytes)) = stream.next().await {
                text += &String::from_utf8_lossy(&bytes);
                while let Some((line, rest)) = text.split_once('\n') {
                    let data = line.strip_prefix("data:").map(str::trim);
                    if let Some(event) = data.and_then(|data| serde_json::from_str::<Event>(data).ok()) {
                        last = Some(event.seq);
                        let Event {
                            seq,
                            pair,
                            kind,
                            sentence,
                            ..
                        } = &event;
                        self.show(&event, &format!("{seq} {pair} {kind}: {sentence}"))?;
                    }
                    text = rest.to_owned();
                }
            }
            sleep(LOOK).await;
        }
    }

    async fn drill(&mut self, drill: DrillVerb) -> Result<u8, AskError> {
        match drill {
            DrillVerb::Start { pair, scenario, said } => {
                let body = json!({ "pair": pair.pair, "scenario": scenario });
                self.post("/v1/drills", body, &said).await
            }
            DrillVerb::Stop { drill, said } => {
                let id = match drill {
                    Running::Id(id) => id,
                    Running::On(pair) => {
                        let detail: PairDetail = self.controller.get(&path(&pair)).await?;
                        detail.drill.ok_or(AskError::NoDrill(pair))?
                    }
                };
                self.post(&format!("/v1/drills/{id}/cancel"), json!({}), &said)
                    .await
            }
            DrillVerb::Report { id } => {
                let drills: Vec<Drill> = match id {
                    Some(id) => vec![self.controller.get(&format!("/v1/drills/{id}")).await?],
                    None => self.controller.get("/v1/drills").await?,
                };
                let text = tree::drills(&drills, now_ms(), self.screen);
                self.show(&drills, &text)
            }
        }
    }
}

fn path(pair: &PairId) -> String {
    format!("/v1/pairs/{pair}")
}

fn query(page: &Pages) -> String {
    let before = page
        .before
        .map(|before| format!("&before={before}"))
        .unwrap_or_default();
    format!("limit={}{before}", page.limit)
}

/// What is asked of a simulation.
fn simulated(suppose: Supposed, order: Option<Ordered>, within: Duration) -> String {
    let order = order.map(|order| format!("&order={order}")).unwrap_or_default();
    format!("suppose={suppose}{order}&within={}ms", within.as_millis())
}

/// A text as a part of a query.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte))
            }
            _ => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
