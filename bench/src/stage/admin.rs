//! What the bench reads from the proxy's admin interface.
//!
//! Every field has a default: the bench may be older or newer than the proxy that it looks at, and only reports what it
//! finds.

use std::net::SocketAddr;

use anyhow::Result;
use serde::Deserialize;

use crate::client;

/// One endpoint as the proxy sees it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EndpointView {
    /// Its name.
    pub name: String,
    /// `primary` or `shadow`.
    pub role: String,
    /// Name of its shadow.
    pub shadow: Option<String>,
    /// 0 to 1.
    pub risk: f64,
    /// Share of its traffic that the shadow serves, 0 to 1.
    pub share: f64,
    /// Where a shift stands.
    pub phase: String,
    /// Share by route class.
    pub class_shares: Vec<f64>,
    /// Requests per second.
    pub rps: f64,
    /// 99th percentile of its latency in microseconds.
    pub p99_us: f64,
    /// Whether it may be chosen.
    pub available: Option<bool>,
}

impl EndpointView {
    /// The largest share of any of its traffic that the shadow serves.
    pub fn share_max(&self) -> f64 {
        self.class_shares.iter().copied().fold(self.share, f64::max)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClusterView {
    endpoints: Vec<EndpointView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct View {
    clusters: Vec<ClusterView>,
}

/// Why an endpoint is treated as it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Explanation {
    /// In one sentence.
    pub sentence: String,
    /// What was decided before.
    pub decisions: Vec<Decision>,
}

/// One decision.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Decision {
    /// When, on the proxy's own clock.
    pub at_us: u64,
    /// In one sentence.
    pub sentence: String,
}

/// A proxy's admin interface.
#[derive(Clone, Copy, Debug)]
pub struct Admin(pub SocketAddr);

impl Admin {
    /// Whether the proxy serves.
    pub fn is_ready(&self) -> bool {
        client::request(self.0, "GET", "/readyz", "").is_ok_and(|(status, _)| status == 200)
    }

    /// All endpoints of all clusters.
    pub fn endpoints(&self) -> Result<Vec<EndpointView>> {
        let view: View = client::json(self.0, "GET", "/v1/endpoints", "")?;
        Ok(view
            .clusters
            .into_iter()
            .flat_map(|cluster| cluster.endpoints)
            .collect())
    }

    /// Why an endpoint is treated as it is.
    pub fn explain(&self, endpoint: &str) -> Result<Explanation> {
        client::json(self.0, "GET", &format!("/v1/explain/{endpoint}"), "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_more_and_less_than_expected_is_read() {
        let text = r#"{"clusters":[{"name":"shop","mode":"normal","endpoints":[
            {"name":"a","role":"primary","shadow":"a-standby","risk":0.1,"share":0.05,"class_shares":[0.0,0.25],
             "terms":[{"name":"x"}],"counts":{"ok":3}},
            {"name":"a-standby","role":"shadow","shadow":null}]}],"unrouted":0}"#;
        let view: View = serde_json::from_str(text).unwrap();
        let endpoints = &view.clusters[0].endpoints;
        assert!((endpoints[0].share_max() - 0.25).abs() < 1e-9);
        assert_eq!(
            (endpoints[1].available, endpoints[1].shadow.as_ref()),
            (None, None)
        );
    }
}
