//! What the controller reads of the proxy's clusters: names, and who is whose shadow.
//!
//! The proxy checks its clusters and knows what may stand there; here a name that cannot be read is simply not known,
//! and nothing is reported twice. So a proxy can get new keys before the controller does.

use foreshade_contract::Name;
use foreshade_settings::{Json, Mistakes, Node, Place, Rate, Read, Scalar, Shown, Value, unexpected};
use serde_json::json;

/// The clusters of the file.
#[derive(Debug, Default)]
pub(crate) struct Clusters {
    pub(crate) known: Vec<Cluster>,
}

/// A cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) name: Name,
    /// Endpoints, each with the shadow that the file gives it.
    pub(crate) endpoints: Vec<(Member, Option<Name>)>,
    /// Members.
    pub(crate) shadows: Vec<Member>,
}

/// A member of a cluster.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: Name,
    /// Where its name stands.
    pub(crate) place: Place,
    pub(crate) region: Option<Name>,
    pub(crate) capacity_rps: Option<f64>,
}

impl Cluster {
    /// Whether it has an endpoint or a shadow of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.members().any(|member| member.as_str() == name)
    }

    /// Names of endpoints and shadows.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Name> {
        let endpoints = self.endpoints.iter().map(|(member, _)| member);
        endpoints.chain(&self.shadows).map(|member| &member.name)
    }
}

impl Read for Clusters {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let Value::List(nodes) = &node.value else {
            mistakes.add(unexpected(node, key, Self::title()));
            return None;
        };
        let known = nodes.iter().filter_map(cluster).collect();
        Some(Self { known })
    }

    fn title() -> String {
        "a list of the proxy's clusters".to_owned()
    }

    fn schema() -> Json {
        json!({ "type": "array", "items": { "type": "object" } })
    }
}

impl Shown for Clusters {
    fn shown(&self) -> Json {
        // Only none is a default.
        json!([])
    }
}

fn cluster(node: &Node) -> Option<Cluster> {
    let endpoint = |node: &Node| Some((member(node)?, name(node, "shadow")));
    Some(Cluster {
        name: name(node, "name")?,
        endpoints: items(node, "endpoints").iter().filter_map(endpoint).collect(),
        shadows: items(node, "shadows").iter().filter_map(member).collect(),
    })
}

fn member(node: &Node) -> Option<Member> {
    let capacity = match below(node, "capacity").map(|node| &node.value) {
        Some(Value::Text(text)) => Rate::parse(text).ok(),
        _ => None,
    };
    Some(Member {
        name: name(node, "name")?,
        place: below(node, "name")?.place,
        region: name(node, "region"),
        capacity_rps: capacity.map(|capacity| capacity.0),
    })
}

fn name(node: &Node, key: &str) -> Option<Name> {
    match &below(node, key)?.value {
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn items<'a>(node: &'a Node, key: &str) -> &'a [Node] {
    match below(node, key).map(|node| &node.value) {
        Some(Value::List(nodes)) => nodes,
        _ => &[],
    }
}

fn below<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    entries
        .iter()
        .find(|entry| entry.key == key)
        .map(|entry| &entry.node)
}
