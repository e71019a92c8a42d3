//! How users stay with their slot, checked: a cookie that browsers will keep, and that is one cluster's alone.

use std::collections::HashMap;
use std::sync::Arc;

use foreshade_contract::Name;
use foreshade_settings::{At, Mistake, Mistakes, Place, quoted};

use super::{Listener, raw};
use crate::policy::sticky::{SameSite, Settings, Sticky};

/// Checks what a cluster says; `None` where that is wrong, and reported. The file of keys is read when the configuration
/// is taken over: it is also checked where there is none.
pub(super) fn sticky(
    raw: Option<At<raw::Sticky>>,
    cluster: Option<&At<Name>>,
    mistakes: &mut Mistakes,
) -> Option<Option<Arc<Sticky>>> {
    let Some(At { value: raw, .. }) = raw else {
        return Some(None);
    };
    let mut refuse_if = |wrong: bool, place: Option<Place>, what: &str, expected: &str| {
        if wrong {
            mistakes.add(Mistake::at(place, what).expected(expected));
        }
    };
    let (secure, path) = (raw.secure.value, &raw.path);
    let place = raw.cookie.as_ref().and_then(At::place);
    let cookie = raw.cookie.as_ref().map_or("", |cookie| cookie.value.0.as_str());
    refuse_if(
        raw.same_site.value == SameSite::None && !secure,
        raw.same_site.place(),
        "sameSite: none without secure: browsers take no such cookie",
        "secure: true, or lax or strict",
    );
    refuse_if(
        (cookie.starts_with("__Secure-") || cookie.starts_with("__Host-")) && !secure,
        place,
        "cookie: browsers take one of this name only where it is secure",
        "secure: true, or another name",
    );
    refuse_if(
        cookie.starts_with("__Host-") && path.value.0 != "/",
        path.place().or(place),
        "path: browsers take a cookie whose name begins with __Host- only for the path /",
        "/, or another name",
    );
    let cluster = cluster?.value.clone();
    Some(Some(Arc::new(Sticky::new(Settings {
        cookie: match raw.cookie {
            Some(cookie) => cookie.value.0,
            None => usual(&cluster),
        },
        cluster,
        keys_file: raw.keys_file?.0,
        ttl: raw.ttl.map(|ttl| ttl.0),
        secure,
        http_only: raw.http_only,
        same_site: raw.same_site.value,
        path: raw.path.value.0,
    }))))
}

/// What concerns several clusters, or the listeners in front of them. No two clusters have the same cookie: each would take
/// the other's for one that was tampered with, and replace it.
pub(super) fn check(clusters: &[raw::Cluster], listeners: &[Option<Listener>], mistakes: &mut Mistakes) {
    let mut seen: HashMap<String, &Name> = HashMap::new();
    let carried = listeners.iter().flatten().filter(|listener| !listener.is_http());
    let carried: Vec<usize> = carried.flat_map(Listener::clusters).collect();
    for (index, cluster) in clusters.iter().enumerate() {
        let (Some(name), Some(sticky)) = (&cluster.name, &cluster.sticky) else {
            continue;
        };
        if carried.contains(&index) {
            let what = "sticky: connections that are carried go to this cluster, and have no cookies";
            mistakes.add(Mistake::at(sticky.place(), what).expected("a cluster that only routes lead to"));
        }
        let cookie = sticky.value.cookie.as_ref();
        let called = cookie.map_or_else(|| usual(&name.value), |cookie| cookie.value.0.clone());
        let place = cookie.map_or_else(|| sticky.place(), At::place);
        if let Some(first) = seen.get(&called) {
            let (cookie, first) = (quoted(&called), quoted(first.as_str()));
            let what = format!("cookie: {cookie} is the cookie of {first} already");
            mistakes.add(Mistake::at(place, what).expected("a cookie of its own"));
        }
        seen.insert(called, &name.value);
    }
}

/// What a cookie is called where nothing is said.
fn usual(cluster: &Name) -> String {
    format!("foreshade-{cluster}")
}
