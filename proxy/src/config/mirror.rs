//! A mirror, checked: its target exists, and is not what serves the users anyway.

use std::time::Duration;

use foreshade_contract::{Name, Share};
use foreshade_settings::{At, Mistake, Mistakes, Names, Part, Reference, quoted};
use http::HeaderName;

use super::check::World;
use super::raw;
use crate::route::Action;

/// The word for the shadow of the endpoint that serves a request.
const SHADOW: &str = "shadow";

/// Which requests are copied, where to, and within which limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Where the copies go.
    pub target: MirrorTarget,
    /// Share of the safe requests that is copied.
    pub share: Share,
    /// Share of the writes that is copied.
    pub writes: Share,
    /// Share of the copies of safe requests that goes to a primary instead, to learn what differs by itself.
    pub noise: Share,
    /// Most copies per second.
    pub rate_rps: Option<f64>,
    /// How long a target may do nothing.
    pub timeout: Duration,
    /// Most copies under way at a time.
    pub concurrency: usize,
    /// Longest body of a request, in bytes.
    pub body_bytes_max: u64,
    /// Headers that are sent although they are withheld otherwise.
    pub keep_headers: Vec<HeaderName>,
}

/// Where copies go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorTarget {
    /// The shadow of the endpoint that serves the request.
    Shadow,
    /// Another cluster. By its name, because a request that is under way when the configuration is replaced would find
    /// somebody else at its index.
    Cluster(Name),
}

/// What is known of the clusters while the routes are checked.
pub(super) struct Clusters<'a> {
    pub(super) names: &'a Names,
    /// Whether a cluster has shadows, by its index. True where that could not be read.
    pub(super) shadowed: Vec<bool>,
    /// Whether its endpoints are asked in HTTP/2, by its index.
    pub(super) http2: Vec<bool>,
    /// How the files that routes name are read.
    pub(super) world: &'a World<'a>,
}

/// Checks the mirror of a route that does this; `None` for that where it is wrong and reported.
pub(super) fn mirror(
    raw: raw::Mirror,
    action: Option<&Action>,
    clusters: &Clusters<'_>,
    mistakes: &mut Mistakes,
) -> Option<Mirror> {
    let own: Vec<usize> = match action {
        Some(Action::Forward(split)) => split.clusters().collect(),
        _ => Vec::new(),
    };
    let part = |part: Part| Share::clamped(part.0);
    let writes = match raw.writes {
        Some(section) => part(section.share?),
        None => Share::ZERO,
    };
    Some(Mirror {
        target: target(raw.target.as_ref()?, &own, clusters, mistakes)?,
        share: part(raw.share?),
        writes,
        noise: match raw.noise {
            raw::Noise::Off => Share::ZERO,
            raw::Noise::Share(share) => part(share),
        },
        rate_rps: raw.rate.map(|rate| rate.0),
        timeout: raw.timeout.0,
        concurrency: usize::try_from(raw.concurrency.0).unwrap_or(usize::MAX),
        body_bytes_max: raw.body_max.0,
        keep_headers: raw.keep_headers.items.into_iter().map(|name| name.0).collect(),
    })
}

fn target(
    written: &At<Reference>,
    own: &[usize],
    clusters: &Clusters<'_>,
    mistakes: &mut Mistakes,
) -> Option<MirrorTarget> {
    let speaks_http2 = |cluster: &usize| clusters.http2.get(*cluster) == Some(&true);
    let asked_in_http2 = || {
        Mistake::at(
            written.place(),
            "target: its endpoints are asked in HTTP/2, and copies are sent in HTTP/1.1",
        )
        .expected("a cluster with protocol: http1")
    };
    if written.value.0 != SHADOW {
        let found = clusters.names.find("cluster", Some(written), mistakes)?;
        if own.contains(&found) {
            mistakes.add(
                Mistake::at(
                    written.place(),
                    format!("target: {} serves this route", quoted(&written.value.0)),
                )
                .expected("another cluster: the users' own would do everything twice"),
            );
            return None;
        }
        if speaks_http2(&found) {
            mistakes.add(asked_in_http2());
            return None;
        }
        return clusters.names.name(found).map(MirrorTarget::Cluster);
    }
    if clusters.names.has(SHADOW) {
        mistakes.add(
            Mistake::at(
                written.place(),
                "target: shadow is also the name of a cluster".to_owned(),
            )
            .expected("a cluster of another name, or nobody can tell what is meant"),
        );
        return None;
    }
    if own.iter().any(speaks_http2) {
        mistakes.add(asked_in_http2());
        return None;
    }
    let bare = |cluster: &usize| clusters.shadowed.get(*cluster) == Some(&false);
    if !own.is_empty() && own.iter().all(bare) {
        mistakes.add(
            Mistake::at(
                written.place(),
                "target: no endpoint of this route's cluster has a shadow".to_owned(),
            )
            .expected("a cluster with shadows, or the name of another cluster as target"),
        );
        return None;
    }
    Some(MirrorTarget::Shadow)
}
