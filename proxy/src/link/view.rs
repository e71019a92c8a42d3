//! The link as operators see it: is the controller there, which plan is in force, and what was refused.

use std::time::{Duration, Instant};

use foreshade_contract::PlanId;
use foreshade_contract::report::{Reason, Refused, Unapplied};
use foreshade_contract::wire::Welcome;
use tokio::sync::watch;

use crate::plan::Keeper;

/// Where the link can be looked at; nowhere where no controller is configured.
pub type Viewed = Option<watch::Receiver<View>>;

/// The link at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// Where the controller is.
    pub address: String,
    /// Who it is, while it is there.
    pub controller: Option<Welcome>,
    /// When that was last known: now, while it is there. `None` before the first time.
    heard: Option<Instant>,
    /// When the link was made.
    begun: Instant,
    /// Why the last connection ended, or did not come about.
    pub error: Option<String>,
    /// Tries to connect, since the start.
    pub dials: u64,
    /// Which plan is in force.
    pub plan: Option<PlanId>,
    /// How many pairs it has.
    pub pairs: usize,
    /// Whether it is on disk.
    pub persisted: bool,
    /// The last plan that was refused.
    pub last_refused: Option<Refused>,
    /// Plans that were refused since the start, in the order of [`Reason::ALL`].
    pub refusals: [u64; Reason::ALL.len()],
    /// Pairs that cannot be carried out; the first ones.
    pub unapplied: Vec<Unapplied>,
    /// How many there are in all.
    pub unapplied_total: usize,
    /// Reports that were made on this connection.
    pub reports: u64,
    /// Reports that were dropped since the start, because the controller did not take them in time.
    pub reports_dropped: u64,
}

impl View {
    pub(super) fn of(address: &str, keeper: &Keeper) -> Self {
        let mut view = Self {
            address: address.to_owned(),
            controller: None,
            heard: None,
            begun: Instant::now(),
            error: None,
            dials: 0,
            plan: None,
            pairs: 0,
            persisted: false,
            last_refused: None,
            refusals: [0; Reason::ALL.len()],
            unapplied: Vec::new(),
            unapplied_total: 0,
            reports: 0,
            reports_dropped: 0,
        };
        view.took(keeper);
        view
    }

    /// Whether the controller is there.
    pub fn is_connected(&self) -> bool {
        self.controller.is_some()
    }

    /// How long the proxy has been without its controller: nothing while it is there.
    pub fn alone_for(&self) -> Duration {
        match self.is_connected() {
            true => Duration::ZERO,
            false => self.heard.unwrap_or(self.begun).elapsed(),
        }
    }

    pub(super) fn connected(&mut self, welcome: Welcome) {
        (self.controller, self.error) = (Some(welcome), None);
    }

    pub(super) fn lost(&mut self, error: String) {
        if self.controller.take().is_some() {
            self.heard = Some(Instant::now());
        }
        self.error = Some(error);
    }

    pub(super) fn took(&mut self, keeper: &Keeper) {
        self.plan = keeper.id();
        self.pairs = keeper.in_force().map_or(0, |plan| plan.pairs().len());
        self.persisted = keeper.is_kept();
    }

    pub(super) fn refused(&mut self, refused: &Refused) {
        let at = Reason::ALL.iter().position(|reason| *reason == refused.reason);
        if let Some(count) = at.and_then(|at| self.refusals.get_mut(at)) {
            *count += 1;
        }
        self.last_refused = Some(refused.clone());
    }

    pub(super) fn unapplied(&mut self, unapplied: Vec<Unapplied>, total: usize) {
        (self.unapplied, self.unapplied_total) = (unapplied, total);
    }

    /// A link that has everything that can be shown, for tests of what shows it.
    #[cfg(test)]
    pub(crate) fn sample() -> Self {
        use crate::plan::file::PlanFile;
        let (keeper, _) = Keeper::start(PlanFile::new("/nowhere/plan"));
        let mut view = Self::of("127.0.0.1:9700", &keeper);
        view.plan = Some(PlanId::default());
        view.lost("gone".to_owned());
        view
    }
}
