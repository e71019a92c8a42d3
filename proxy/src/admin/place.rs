//! From names to an endpoint. A name that two clusters have is ambiguous, and guessing would move the wrong
//! traffic; so it is refused with the choices.

use axum::http::StatusCode;
use foreshade_contract::Name;
use foreshade_settings::nearest;

use super::refusal::Refusal;
use crate::recorder::Place;
use crate::topology::Topology;
use crate::topology::ids::EndpointId;

/// Names that are listed where none is like the one that was asked for. A hint, not an inventory.
const CHOICES_MAX: usize = 20;

/// An endpoint that exists, with its full name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) id: EndpointId,
    pub(super) cluster: &'a Name,
    pub(super) endpoint: &'a Name,
}

/// The endpoint of this name, in this cluster or, where none is named, in the only one that has it.
pub(super) fn find<'a>(
    topology: &'a Topology,
    cluster: Option<&str>,
    endpoint: &str,
) -> Result<Found<'a>, Refusal> {
    let clusters = &topology.config().clusters;
    if let Some(wanted) = cluster.filter(|wanted| clusters.iter().all(|c| c.name.as_str() != *wanted)) {
        return Err(unknown(
            "cluster",
            wanted,
            clusters.iter().map(|c| c.name.as_str().to_owned()).collect(),
        ));
    }
    let all = clusters
        .iter()
        .enumerate()
        .filter(|(_, c)| cluster.is_none_or(|wanted| c.name.as_str() == wanted))
        .flat_map(|(cluster, c)| {
            c.endpoints.iter().enumerate().filter_map(move |(endpoint, e)| {
                Some(Found {
                    id: topology.endpoint_id(Place { cluster, endpoint })?,
                    cluster: &c.name,
                    endpoint: &e.name,
                })
            })
        });
    let found: Vec<_> = all.clone().filter(|f| f.endpoint.as_str() == endpoint).collect();
    match found.as_slice() {
        [only] => Ok(*only),
        [] => Err(unknown(
            "endpoint",
            endpoint,
            all.map(|f| f.endpoint.as_str().to_owned()).collect(),
        )),
        several => {
            let error = format!("several clusters have an endpoint {endpoint:?}; name the cluster");
            let choices = several
                .iter()
                .map(|f| format!("{}/{}", f.cluster, f.endpoint))
                .collect();
            Err(Refusal::new(StatusCode::CONFLICT, error).choices(choices))
        }
    }
}

fn unknown(what: &str, wanted: &str, mut known: Vec<String>) -> Refusal {
    known.sort_unstable();
    known.dedup();
    let (error, choices) = match nearest(wanted, known.iter().map(String::as_str)) {
        Some(meant) => (
            format!("no {what} {wanted:?}; did you mean {meant:?}?"),
            vec![meant.to_owned()],
        ),
        None => {
            known.truncate(CHOICES_MAX);
            (format!("no {what} {wanted:?}"), known)
        }
    };
    Refusal::new(StatusCode::NOT_FOUND, error).choices(choices)
}
