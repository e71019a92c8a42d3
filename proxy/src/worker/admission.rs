//! What becomes of a request that has come, before any endpoint is chosen: a cluster, an answer, or nothing.
//!
//! Policies are asked here, the listener's before there is a route and the route's before its action, so that they hold
//! for redirects and answers, too.

use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use foreshade_contract::Name;
use foreshade_engine::balance::Request;
use foreshade_engine::moment::Moment;

use super::sticking::Stuck;
use super::{Flow, Worker};
use crate::cohort;
use crate::config::Cluster;
use crate::edit::{Edits, Facts};
use crate::mirror::Rule;
use crate::policy::compress::{self, Compressing};
use crate::policy::gate::{Entry, Pass};
use crate::policy::marks::Marks;
use crate::policy::pages::{Giver, Shelf, Shown};
use crate::policy::{Cleared, Denial, GATES, Gate, Held, Priority, Reason, Until, Wait};
use crate::request::RequestView;
use crate::rewrite::NoPath;
use crate::route::answer::Answer;
use crate::route::split::Split;
use crate::route::{Action, Route};
use crate::topology::Topology;
use crate::topology::ids::ListenerId;

/// What becomes of a request that has come.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every request is forwarded, and a box would be one more allocation for each"
)]
pub enum Admission {
    /// A cluster serves it.
    Forward(Flow),
    /// It is answered here.
    Answer(Answer),
    /// No route matches.
    Unrouted,
    /// It has to wait; ask again when that is over.
    Wait(Box<Wait>),
}

/// What a request's route changes on the way, and the name of the cluster that it goes to.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The changes.
    pub edits: Arc<Edits>,
    /// The cluster.
    pub cluster: Name,
}

impl Changes {
    /// The path and query that are asked for instead, where the route changes them.
    ///
    /// # Errors
    /// Where the route makes of the path what is none.
    pub fn target(&self, path: &str, query: Option<&str>) -> Result<Option<String>, NoPath> {
        let Some(rewrite) = &self.edits.rewrite.path else {
            return Ok(None);
        };
        Ok(rewrite.apply(path)?.map(|mut target| {
            if let Some(query) = query {
                target.push('?');
                target.push_str(query);
            }
            target
        }))
    }

    /// What variables stand for in a request.
    pub fn facts<'a>(&'a self, view: &RequestView<'a>) -> Facts<'a> {
        Facts {
            route: &self.edits.route,
            cluster: self.cluster.as_str(),
            ..Facts::of(view)
        }
    }
}

/// What policies have granted to a request, and what they change in it.
#[derive(Debug, Default)]
pub(super) struct Granted {
    /// Gates that it is through, until it has been answered.
    passes: [Option<Pass>; GATES],
    /// What changes before an endpoint gets it.
    asks: Option<Box<Marks>>,
    /// What changes in its answer.
    marks: Option<Box<Marks>>,
    /// A fault was made on purpose.
    fault: Option<&'static str>,
    /// What its answer is to become; `None` where answers are not compressed.
    compressing: Option<Compressing>,
    /// Where pages for its errors are looked for.
    shelf: Shelf,
}

impl Granted {
    /// What changes in its answer, for whoever adds to it.
    pub(super) fn marks_mut(&mut self) -> &mut Marks {
        self.marks.get_or_insert_default()
    }

    /// The places that it has.
    fn places(&mut self) -> impl Iterator<Item = &mut Pass> {
        self.passes.iter_mut().flatten()
    }

    /// The answer begins after `latency`, or is given up as too `late`: limits of concurrency learn of it.
    pub(super) fn sample(&mut self, now: Moment, latency: Duration, late: bool) {
        self.places().for_each(|pass| pass.sample(now, latency, late));
    }

    /// The client has gone, who `waited` for his answer.
    pub(super) fn abandoned(&mut self, now: Moment, waited: Duration) {
        self.places().for_each(|pass| pass.abandoned(now, waited));
    }

    /// No answer is waited for: it has begun, or the client has not said all.
    pub(super) fn rests(&mut self) {
        self.places().for_each(Pass::rests);
    }

    /// The answer is waited for again.
    pub(super) fn waits(&mut self) {
        self.places().for_each(Pass::waits);
    }

    /// The request has been answered: its places are for others.
    pub(super) fn release(&mut self) {
        self.passes = Default::default();
    }
}

/// Where a request goes, and on what terms.
struct Way {
    cluster: usize,
    request: Request,
    timeout: Duration,
    changes: Option<Changes>,
    mirror: Option<Arc<Rule>>,
    stuck: Option<Box<Stuck>>,
    compressing: Option<Compressing>,
    timed: bool,
}

/// Why a request goes nowhere.
enum Stop {
    Answered(Box<Answer>),
    Denied(Box<Denial>),
    Unrouted,
    Waits(Until),
}

impl From<Denial> for Stop {
    fn from(denial: Denial) -> Self {
        Self::Denied(Box::new(denial))
    }
}

impl From<Held> for Stop {
    fn from(held: Held) -> Self {
        match held {
            Held::Denied(denial) => Self::Denied(denial),
            Held::Waits(until) => Self::Waits(until),
        }
    }
}

impl Flow {
    /// What its route changes on the way; `None` for most.
    pub fn changes(&self) -> Option<&Changes> {
        self.changes.as_ref()
    }

    /// What policies change in it before an endpoint gets it; `None` for most.
    pub fn asks(&self) -> Option<&Marks> {
        self.granted.asks.as_deref()
    }

    /// The fault that was made on purpose, as a line in the access log says it; empty for most.
    pub fn fault(&self) -> &'static str {
        match self.granted.fault {
            Some("delay") => "fault_delay",
            Some(_) | None => "",
        }
    }

    /// What its answer is to become; `None` where answers are not compressed.
    pub fn compressing(&self) -> Option<&Compressing> {
        self.granted.compressing.as_ref()
    }

    /// The page that its client sees of an error, if there is one.
    pub fn page(&self, status: u16, giver: Giver) -> Option<&Shown> {
        self.granted.shelf.find(status, giver)
    }

    /// What policies change in its answer; `None` for most.
    pub fn marks(&self) -> Option<&Marks> {
        self.granted.marks.as_deref()
    }
}

impl Worker {
    /// Whether nothing is asked of the request before it goes where its route sends it, in HTTP/1.1, and its answer passes as
    /// it is.
    pub fn is_unpoliced(&self, listener: ListenerId, view: &RequestView<'_>) -> bool {
        // One that is gone is served by the policy that it had.
        if !self.topology.is_policed(listener) {
            return true;
        }
        let Some((settings, router)) = self.topology.listener(listener) else {
            return false;
        };
        let route = router.route(view);
        let of_route = route.and_then(|route| route.policy.as_deref());
        let compresses = compress::rule(settings.policy.as_deref(), of_route);
        if compresses.is_some_and(|rule| rule.coding(view).is_some()) {
            return false;
        }
        let mut policies = settings
            .policy
            .iter()
            .chain(route.and_then(|route| route.policy.as_ref()));
        let is_plain = |cluster: usize| {
            let cluster = self.topology.cluster(cluster);
            cluster.is_some_and(|cluster| cluster.gate.is_none() && cluster.http2.is_none())
        };
        policies.all(|policy| policy.is_plain()) && route.is_none_or(|route| route.clusters().all(is_plain))
    }

    /// The page that a client of this listener sees of an error, where no route is known, if there is one.
    pub fn page(&self, listener: ListenerId, status: u16) -> Option<Shown> {
        let policy = self.listener(listener)?.policy.as_deref();
        Shelf::of(policy, None).find(status, Giver::Proxy).cloned()
    }

    /// Finds the request's route, and what becomes of it. What is answered here, and what has no route, is counted.
    pub fn admit(&mut self, listener: ListenerId, view: &RequestView<'_>) -> Admission {
        self.admit_again(listener, view, Cleared::default())
    }

    /// The same, for a request that had to wait.
    pub fn admit_again(
        &mut self,
        listener: ListenerId,
        view: &RequestView<'_>,
        mut cleared: Cleared,
    ) -> Admission {
        let now = self.now();
        let arrived = *cleared.arrived.get_or_insert(now);
        let way = match self.way(listener, view, now, &mut cleared) {
            Err(Stop::Waits(until)) => return Admission::Wait(Box::new(Wait { cleared, until })),
            way => way,
        };
        self.policed.note(&cleared.findings);
        let mut marks = cleared.marks;
        cleared.findings.mark(&mut marks);
        let way = match way {
            Ok(way) => way,
            Err(Stop::Answered(mut answer)) => {
                self.answered_here.add(answer.reason, 1);
                marks.apply(&mut answer.headers);
                return Admission::Answer(*answer);
            }
            Err(Stop::Denied(mut denial)) => {
                self.policed.refuse(denial.reason);
                marks.apply(&mut denial.headers);
                // Who says something of his own, or somebody else's, is heard.
                let page = cleared.shelf.find(denial.status, Giver::Proxy);
                let page = page.filter(|_| denial.body.is_none()).cloned();
                let answer = Answer::from(*denial);
                return Admission::Answer(Answer { page, ..answer });
            }
            Err(Stop::Unrouted | Stop::Waits(..)) => {
                self.unrouted += 1;
                return Admission::Unrouted;
            }
        };
        let mirror = way.mirror.filter(|rule| rule.wants(view.method, &mut self.rng));
        Admission::Forward(Flow {
            generation: self.generation,
            cluster: way.cluster,
            cluster_id: self.topology.cluster_id(way.cluster),
            request: way.request,
            arrived,
            ready: now,
            said: now,
            granted: Granted {
                passes: cleared.passes,
                asks: boxed(cleared.asks),
                marks: boxed(marks),
                fault: cleared.findings.faults.first().copied(),
                compressing: way.compressing,
                shelf: cleared.shelf,
            },
            timeout: way.timeout,
            limit: arrived + way.timeout,
            tried: ArrayVec::new(),
            tried_ids: ArrayVec::new(),
            next: None,
            attempt: None,
            started: None,
            sent: None,
            first_byte: None,
            failure: None,
            drawn: None,
            stuck: way.stuck,
            traced: None,
            timed: way.timed,
            changes: way.changes,
            mirror,
        })
    }

    /// The way of a request to its cluster, past the policies on it.
    fn way(
        &self,
        listener: ListenerId,
        view: &RequestView<'_>,
        now: Moment,
        cleared: &mut Cleared,
    ) -> Result<Way, Stop> {
        cleared.marks = Marks::default();
        cleared.asks = Marks::default();
        let settings = self.listener(listener);
        // Before all policies: who asks comes from anywhere, and knows no password.
        if settings.is_some_and(|l| l.answers_challenges)
            && let Some(answer) = self.challenges.answer(view.path)
        {
            return Err(Stop::Answered(Box::new(answer)));
        }
        let general = settings.and_then(|l| l.policy.as_deref());
        cleared.shelf = Shelf::of(general, None);
        if let Some(policy) = general {
            policy.weigh(view, now, 0, cleared)?;
        }
        let found = match self.topology.listener(listener) {
            Some((_, router)) => router.route(view).map(|route| (route, None)),
            None => self
                .route_of_the_retired(listener, view)
                .map(|(route, before)| (route, Some(before))),
        };
        // Before anything else is asked: a page may read why it is refused.
        if let Some(policy) = found.and_then(|(route, _)| route.policy.as_ref()) {
            cleared.shelf = Shelf::of(general, Some(policy));
            policy.mark(view, &mut cleared.marks);
        }
        if let Some(denial) = cleared.refused.take() {
            return Err(Stop::Denied(denial));
        }
        // A browser that asks for a page sends no password yet.
        let preflight = found.and_then(|(route, _)| route.policy.as_ref()?.preflight(view));
        if let (Some(policy), None) = (general, &preflight) {
            policy.prove(view, now, cleared)?;
        }
        let (route, before) = found.ok_or(Stop::Unrouted)?;
        if let Some(policy) = &route.policy {
            policy.weigh(view, now, 1, cleared)?;
            if let Some(answer) = preflight {
                cleared.marks = Marks::default();
                return Err(Stop::Answered(Box::new(answer)));
            }
            policy.prove(view, now, cleared)?;
            policy.drill(view, cleared)?;
        }
        let split = match &route.action {
            Action::Forward(split) => split,
            Action::Redirect(_) | Action::Respond(_) => {
                return Err(Stop::Answered(Box::new(Answer::of(route, view))));
            }
        };
        let (index, cluster, mut request) = self.choose(route, split, before, view).ok_or(Stop::Unrouted)?;
        let policy = route.policy.as_deref();
        let class = policy.map_or(Priority::Normal, |policy| policy.class.of(view));
        let own = policy.and_then(|policy| policy.gate.as_ref());
        pass([own, cluster.gate.as_ref()], (class, now), cleared)?;
        let stuck = cluster
            .sticky
            .as_ref()
            .map(|by| Box::new(Stuck::new(by, view, now)));
        request.stick = stuck.as_ref().and_then(|stuck| stuck.place(cluster));
        Ok(Way {
            cluster: index,
            request,
            timeout: route.timeout,
            changes: route.edits.as_ref().map(|edits| Changes {
                edits: edits.clone(),
                cluster: cluster.name.clone(),
            }),
            mirror: route.mirror.clone(),
            stuck,
            compressing: Compressing::of(general, policy, view),
            timed: route.server_timing,
        })
    }

    /// The cluster that serves a user, and what its engine needs to know of him. The first cluster of a route says how
    /// users are recognised, so that one user has one cluster; within it, its own way counts. The clusters of a route that
    /// is gone are those of the configuration `before`: they are looked for where they are now.
    fn choose(
        &self,
        route: &Route,
        split: &Split,
        before: Option<&Topology>,
        view: &RequestView<'_>,
    ) -> Option<(usize, &Cluster, Request)> {
        let now = |cluster: usize| match before {
            None => Some(cluster),
            Some(before) => self.topology.cluster_index(before.cluster_id(cluster)?),
        };
        let by = |cluster: usize| {
            let index = now(cluster)?;
            let cluster = self.topology.cluster(index)?;
            Some((index, cluster, cohort::request(view, route, cluster)))
        };
        if let Some(only) = split.only() {
            return by(only);
        }
        // Where the first one is gone, whichever is left.
        let (_, _, request) = split.clusters().find_map(by)?;
        by(split.choose(request.cohort, |cluster| {
            let table = now(cluster).and_then(|index| self.snapshot.clusters.get(index));
            table.is_some_and(|table| table.can_serve(&request))
        }))
    }
}

/// Most requests have none.
fn boxed(marks: Marks) -> Option<Box<Marks>> {
    (!marks.is_empty()).then(|| Box::new(marks))
}

/// Leads a request through the gates on its way that it has not passed yet.
fn pass(
    gates: [Option<&Arc<Gate>>; GATES],
    (class, now): (Priority, Moment),
    cleared: &mut Cleared,
) -> Result<(), Stop> {
    for (index, (gate, place)) in gates.into_iter().zip(&mut cleared.passes).enumerate() {
        // Whoever had to wait may be led elsewhere now, and a place there is another one.
        let is_here = |pass: &Pass| gate.is_some_and(|gate| pass.is_of(gate));
        if place.as_ref().is_some_and(|pass| !is_here(pass)) {
            *place = None;
        }
        let Some(gate) = gate.filter(|_| place.is_none()) else {
            continue;
        };
        match gate.enter(class, now) {
            Entry::Through(pass) => *place = Some(pass),
            Entry::Waits(waiting) => return Err(Stop::Waits(Until::Turn(index, waiting))),
            Entry::Full => return Err(Denial::of(Reason::Busy).come_back_in(1).into()),
        }
    }
    Ok(())
}
