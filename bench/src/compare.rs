//! What serving costs: foreshade, a bare pingora-proxy and the rivals, by the same load before the same endpoints.
//!
//! The unit is what an operator pays: CPU time of all the contender's processes per request. Throughput alone would
//! measure the harness too, which shares the machine. Contenders run on a core of their own and everything else on the
//! others, one worker each; every case is put to all of them in turn, round by round, and ratios are taken within a
//! round, because a machine's speed drifts more from minute to minute than contenders differ. Rivals are configured as
//! they come, with nothing switched on that would cost them, and foreshade with all that it does by default.
//!
//! Whoever cannot take part is named with the reason, and so is whoever fails on the way; nobody else suffers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::compare::bed::{Endpoints, start_apart};
use crate::compare::case::{Bodies, Case, PROTOCOLS, Question, protocol_name};
use crate::compare::driver::Driver;
use crate::compare::measure::{Terms, Value};
use crate::results::{CompareResults, CompareRow, FORMAT, Measure, Protocol, Provenance};
use crate::rivals::{Contender, Found, Running, Site, Tls};
use crate::stage::cores::Cores;
use crate::stage::interrupt::Interrupt;
use crate::stage::process::Programs;
use crate::table;

pub mod bed;
pub mod case;
pub mod certificate;
pub mod driver;
pub mod flame;
pub mod measure;
pub mod summary;

/// Whoever is compared unless somebody says otherwise.
pub const CONTENDERS: [Contender; 5] = [
    Contender::Foreshade,
    Contender::Bare,
    Contender::Nginx,
    Contender::Haproxy,
    Contender::Envoy,
];

/// What to compare.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// Who takes part.
    pub contenders: Vec<Contender>,
    /// What they are asked.
    pub cases: Vec<Case>,
    /// How often.
    pub rounds: usize,
    /// How they are asked.
    pub terms: Terms,
    /// Who makes the load a second time, to be held against ours.
    pub second: Option<Driver>,
    /// Threads or processes of each contender.
    pub workers: usize,
    /// Folder for flame graphs of the cases about serving.
    pub profiles: Option<PathBuf>,
}

/// A run of comparisons.
pub struct Comparison<'a> {
    /// What runs.
    pub programs: &'a Programs,
    /// What is compared.
    pub options: &'a CompareOptions,
    /// For configurations and logs.
    pub folder: &'a Path,
    /// Ends it early.
    pub interrupt: &'a Interrupt,
}

/// What has been found so far.
#[derive(Debug, Default)]
struct Book {
    /// By place of the case, measure, driver and place of the contender: the order in which they are read.
    rows: BTreeMap<(usize, Measure, Driver, usize), CompareRow>,
    skipped: BTreeMap<String, String>,
}

/// What one contender had to say to one case in one round: its place, and the values.
type Answer = (usize, Vec<Value>);

/// A contender that takes part in a round.
struct Seat<'a> {
    /// Place among the contenders.
    place: usize,
    found: &'a Found,
    running: Running,
}

impl Book {
    fn skip(&mut self, what: String, why: impl Into<String>) {
        self.skipped.entry(what).or_insert_with(|| why.into());
    }

    /// Keeps one round of a case.
    fn enter(&mut self, (place, case): (usize, &Case), driver: Driver, names: &[Found], answers: &[Answer]) {
        let bodies = match case.question {
            Question::Serving(bodies) => Some(bodies),
            Question::Latency | Question::Connections | Question::Idle => None,
        };
        for (contender, values) in answers {
            let name = names.get(*contender).map_or("", |found| found.contender.name());
            for value in values {
                let key = (place, value.measure, driver, *contender);
                let row = self.rows.entry(key).or_insert_with(|| CompareRow {
                    measure: value.measure,
                    protocol: case.protocol,
                    body_bytes: bodies.and_then(Bodies::answered),
                    posted_bytes: bodies.and_then(Bodies::posted),
                    driver: driver.name().to_owned(),
                    contender: name.to_owned(),
                    rounds: Vec::new(),
                    at_least: false,
                });
                row.rounds.push(value.value);
                row.at_least |= value.at_least;
            }
        }
    }
}

impl Comparison<'_> {
    /// Compares, and calls `on_line` with what happens. An interrupted run returns what it has.
    ///
    /// # Errors
    /// When nobody can take part, or the harness itself fails; not when a contender does.
    pub fn run(&self, on_line: &mut dyn FnMut(&str)) -> Result<CompareResults> {
        let cores = Cores::divide()?;
        let mut book = Book::default();
        let mut found = Vec::new();
        for contender in &self.options.contenders {
            match contender.find(self.programs) {
                Ok(present) => found.push(present),
                Err(absent) => book.skip(contender.name().to_owned(), absent.to_string()),
            }
        }
        if found.is_empty() {
            bail!("none of the contenders is installed: {:?}", book.skipped);
        }
        let tls = certificate::make(self.folder)?;
        for protocol in PROTOCOLS {
            let cases = self.options.cases.iter().enumerate();
            let cases: Vec<_> = cases.filter(|(_, case)| case.protocol == protocol).collect();
            for round in 0..self.options.rounds {
                if self.interrupt.is_asked() || cases.is_empty() {
                    break;
                }
                let table = Round {
                    comparison: self,
                    cores: cores.as_ref(),
                    tls: &tls,
                    found: &found,
                    round,
                };
                table.play((protocol, &cases), &mut book, on_line)?;
            }
        }
        Ok(self.results(&found, book))
    }

    fn results(&self, found: &[Found], book: Book) -> CompareResults {
        let here = table::Provenance::here();
        let versions = found
            .iter()
            .map(|found| (found.contender.name().to_owned(), found.version.clone()));
        CompareResults {
            provenance: Provenance {
                format: FORMAT,
                command: here.command,
                cores: here.cores,
                processor: here.processor,
                versions: versions.collect(),
                skipped: book.skipped,
            },
            rows: book.rows.into_values().collect(),
        }
    }

    /// Who makes the load of a case: ours, and whoever is held against it.
    fn drivers(&self, case: &Case) -> impl Iterator<Item = Driver> {
        let second = self
            .options
            .second
            .filter(|driver| driver.can(case.protocol, case.question));
        std::iter::once(Driver::Ours).chain(second.filter(|driver| *driver != Driver::Ours))
    }
}

/// One round of the cases of one protocol.
struct Round<'a> {
    comparison: &'a Comparison<'a>,
    cores: Option<&'a Cores>,
    tls: &'a Tls,
    found: &'a [Found],
    round: usize,
}

impl Round<'_> {
    fn play(
        &self,
        (protocol, cases): (Protocol, &[(usize, &Case)]),
        book: &mut Book,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let Comparison {
            programs,
            options,
            folder,
            interrupt,
        } = self.comparison;
        let endpoints = Endpoints::start(programs, &folder.join("endpoints"))?;
        let mut seats = self.seats(protocol, &endpoints, book)?;
        // Nobody is always asked first, or always after the same one.
        let count = seats.len().max(1);
        seats.rotate_left(self.round % count);
        for (place, case) in cases {
            for driver in self.comparison.drivers(case) {
                let mut answers = Vec::new();
                for seat in &seats {
                    let who = format!("{} {case}", seat.found.contender.name());
                    if book.skipped.contains_key(&who) {
                        continue;
                    }
                    match self.ask(seat, case, driver, &endpoints) {
                        Ok(values) => answers.push((seat.place, values)),
                        // Ctrl-C has reached the contender before us.
                        Err(_) if interrupt.is_asked() => return Ok(()),
                        Err(error) => book.skip(who, format!("{error:#}")),
                    }
                }
                book.enter((*place, case), driver, self.found, &answers);
                on_line(&self.line(case, driver, &answers));
            }
            if let (Some(profiles), Question::Serving(_), 0) = (&options.profiles, case.question, self.round)
            {
                self.profile(&seats, case, profiles, book);
            }
        }
        Ok(())
    }

    /// Starts everybody who can serve this protocol.
    fn seats(&self, protocol: Protocol, endpoints: &Endpoints, book: &mut Book) -> Result<Vec<Seat<'_>>> {
        let mut seats = Vec::new();
        for (place, found) in self.found.iter().enumerate() {
            let name = found.contender.name();
            let site = endpoints.site(protocol, self.comparison.options.workers, self.tls)?;
            let who = format!("{name} {}", protocol_name(protocol));
            if let Some(why) = found.cannot(&site) {
                book.skip(who, why);
                continue;
            }
            match self.start(found, &site, name) {
                Ok(running) => seats.push(Seat {
                    place,
                    found,
                    running,
                }),
                Err(_) if self.comparison.interrupt.is_asked() => break,
                Err(error) => book.skip(who, format!("{error:#}")),
            }
        }
        Ok(seats)
    }

    fn start(&self, found: &Found, site: &Site, name: &str) -> Result<Running> {
        let folder = self.comparison.folder.join(name);
        start_apart(self.cores, self.comparison.programs, (found, site), &folder)
    }

    fn ask(&self, seat: &Seat<'_>, case: &Case, driver: Driver, endpoints: &Endpoints) -> Result<Vec<Value>> {
        let (programs, terms) = (self.comparison.programs, &self.comparison.options.terms);
        let folder = self.comparison.folder;
        match case.question {
            Question::Serving(bodies) => {
                measure::serving(programs, &seat.running, (driver, bodies), terms, folder)
            }
            Question::Connections => measure::connections(&seat.running, terms),
            Question::Latency => {
                // Beside each contender anew: what asking directly takes drifts, too.
                let direct = endpoints.direct().context("there is no endpoint")?;
                let direct = measure::latency(direct, terms).context("an endpoint, asked directly")?;
                Ok(measure::latency(seat.running.site.listen, terms)?.above(&direct))
            }
            Question::Idle => {
                // One that has served nobody yet: else idle connections would live in memory that it has already.
                let site = endpoints.site(case.protocol, seat.running.site.workers, self.tls)?;
                let name = format!("{}-idle", seat.found.contender.name());
                measure::idle(&self.start(seat.found, &site, &name)?)
            }
        }
    }

    fn line(&self, case: &Case, driver: Driver, answers: &[Answer]) -> String {
        let mut answers: Vec<_> = answers.iter().collect();
        answers.sort_by_key(|(place, _)| *place);
        let shown = |(place, values): &&Answer| {
            let name = self.found.get(*place).map_or("", |found| found.contender.name());
            let value = values.first().map_or(0.0, |value| value.value);
            format!("{name} {value:.1}")
        };
        let shown: Vec<_> = answers.iter().map(shown).collect();
        let by = if driver == Driver::Ours {
            String::new()
        } else {
            format!(" by {}", driver.name())
        };
        format!(
            "round {}  {:<20} {}",
            self.round + 1,
            format!("{case}{by}"),
            shown.join("   ")
        )
    }

    /// Draws where the time of each contender goes.
    fn profile(&self, seats: &[Seat<'_>], case: &Case, folder: &Path, book: &mut Book) {
        if let Some(why) = flame::missing() {
            book.skip("profiles".to_owned(), why);
            return;
        }
        let (programs, terms) = (self.comparison.programs, &self.comparison.options.terms);
        for seat in seats {
            let name = seat.found.contender.name();
            let file = folder.join(format!("{name}-{}.svg", case.to_string().replace('/', "-")));
            if let Err(error) = flame::draw(programs, (&seat.running, case), terms, &file) {
                book.skip(format!("profile of {name} {case}"), format!("{error:#}"));
            }
        }
    }
}
