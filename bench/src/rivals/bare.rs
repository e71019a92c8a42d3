//! The contenders that this program plays itself: [`crate::bare`], as the yardstick of cost, as the one whom nothing
//! moves, and taught as the oracle.

use std::ffi::OsString;

use anyhow::Result;

use super::{Leash, Recipe, Running, Site};
use crate::bare::oracle::Teaching;
use crate::client;
use crate::results::Protocol;

pub(super) const RECIPE: Recipe = Recipe {
    program: "foreshade-bench",
    install: "it is this program",
    version: &["--version"],
    cannot: |site, _| {
        (site.protocol != Protocol::Http1).then_some("it serves HTTP/1.1 without encryption only")
    },
    configuration: None,
    arguments: |site, _| arguments(site),
    ready: |_| true,
    leash: Leash::Kill,
};

pub(super) const ORACLE: Recipe = Recipe {
    arguments: |site, _| {
        let standbys = site
            .standbys
            .iter()
            .map(|s| format!("--standby={}={}", s.name, s.address).into());
        let taught = [
            format!("--control={}", site.admin),
            format!("--capacity={}", site.capacity),
        ];
        arguments(site)
            .into_iter()
            .chain(standbys)
            .chain(taught.map(Into::into))
            .collect()
    },
    ready: |site| client::request(site.admin, "GET", "/taught", "").is_ok_and(|(status, _)| status == 200),
    ..RECIPE
};

fn arguments(site: &Site) -> Vec<OsString> {
    let mut words = vec![
        "bare".into(),
        format!("--listen={}", site.listen).into(),
        format!("--workers={}", site.workers).into(),
    ];
    let upstreams = site.primaries.iter();
    words.extend(upstreams.map(|primary| format!("--upstream={}={}", primary.name, primary.address).into()));
    words
}

impl Running {
    /// Tells the oracle what is wrong from now on; an empty teaching when all is well again.
    ///
    /// # Errors
    /// When it does not answer, or was told of an endpoint that it does not know.
    pub fn teach(&self, teaching: &Teaching) -> Result<()> {
        let body = serde_json::to_string(teaching)?;
        client::json::<serde_json::Value>(self.site.admin, "PUT", "/taught", &body).map(drop)
    }
}
