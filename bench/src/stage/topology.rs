//! A proxy configuration as the bench needs it: who listens where, and the same file on other ports.
//!
//! The bench runs the shipped configuration as it is, with three exceptions: its addresses (so that several runs fit on
//! one machine), the header by which users are told apart (all load comes from one address, and the default is the
//! address) and, for the comparison in the demo, shifting switched off. The file is read as a plain tree and written as
//! JSON, which is YAML too; checking it is the proxy's business.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::farm::EndpointSpec;
use crate::load::mix::USER_HEADER;
use crate::scenario::Site;
use crate::scenario::site::standbys;

/// Distance between two sets of ports that are tried.
const PORT_STEP: u16 = 20;

/// How many sets are tried; the last one still lies below the kernel's ephemeral ports.
const PORT_SETS: u16 = 600;

/// Where the admin interface listens if the file does not say.
const ADMIN_DEFAULT: &str = "127.0.0.1:9901";

/// The farm's control goes to this port of each set.
const CONTROL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);

/// A primary and its shadow, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The primary.
    pub primary: String,
    /// Its shadow, if it has one.
    pub shadow: Option<String>,
}

/// A configuration with one listener and one cluster, all on loopback addresses.
#[derive(Clone, Debug)]
pub struct Topology {
    document: Value,
    users: SocketAddr,
    admin: SocketAddr,
    control: SocketAddr,
    endpoints: Vec<EndpointSpec>,
    pairs: Vec<Pair>,
    controller: Option<ControllerAt>,
}

/// Where the controller listens, if the file is one for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControllerAt {
    /// For operators.
    pub api: SocketAddr,
    /// For proxies.
    pub link: SocketAddr,
}

impl Topology {
    /// Reads a configuration file.
    pub fn load(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("cannot use {}", path.display()))
    }

    /// Reads a configuration.
    pub fn parse(text: &str) -> Result<Self> {
        // `off` is a word, as in the proxy's own reading of the file, and not the boolean that it was in YAML 1.1.
        let words = serde_saphyr::options! { strict_booleans: true };
        let document: Value = serde_saphyr::from_str_with_options(text, words).context("not YAML")?;
        Self::from_document(document, CONTROL)
    }

    fn from_document(mut document: Value, control: SocketAddr) -> Result<Self> {
        for (list, what) in [("/listeners", "listener"), ("/clusters", "cluster")] {
            let count = document
                .pointer(list)
                .and_then(Value::as_array)
                .map_or(0, Vec::len);
            ensure!(
                count == 1,
                "the bench needs exactly one {what}, the file has {count}"
            );
        }
        tell_users_apart(&mut document)?;
        if document.pointer("/admin/address").is_none() {
            document["admin"] = json!({ "address": ADMIN_DEFAULT });
        }
        // Users on any address are, for the bench, users on the loopback interface.
        let mut users = address(&document["listeners"][0])?;
        if users.ip().is_unspecified() {
            users.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let cluster = &document["clusters"][0];
        let (mut endpoints, mut pairs) = (Vec::new(), Vec::new());
        for member in members(cluster, "endpoints") {
            endpoints.push(spec(member)?);
            let shadow = member.get("shadow").and_then(Value::as_str).map(str::to_owned);
            pairs.push(Pair {
                primary: spec(member)?.name,
                shadow,
            });
        }
        for member in members(cluster, "shadows") {
            endpoints.push(spec(member)?);
        }
        Ok(Self {
            users,
            admin: address(&document["admin"])?,
            control,
            endpoints,
            pairs,
            controller: controller(&document)?,
            document,
        })
    }

    /// The same configuration, moved as a whole to ports that are free now.
    pub fn on_free_ports(&self) -> Result<Self> {
        for set in 0..PORT_SETS {
            let Some(moved) = self.moved(set * PORT_STEP)? else {
                break;
            };
            if moved
                .addresses()
                .all(|address| TcpListener::bind(address).is_ok())
            {
                return Ok(moved);
            }
        }
        bail!("found no free ports near those of the configuration")
    }

    /// All ports `distance` higher; `None` where that leads out of the range.
    fn moved(&self, distance: u16) -> Result<Option<Self>> {
        let mut document = self.document.clone();
        let mut places = vec!["/admin".to_owned(), "/listeners/0".to_owned()];
        let led = ["/follow", "/controller/link", "/controller/api"];
        places.extend(led.map(str::to_owned));
        for list in ["endpoints", "shadows"] {
            let count = members(&document["clusters"][0], list).len();
            places.extend((0..count).map(|index| format!("/clusters/0/{list}/{index}")));
        }
        let shift = |mut address: SocketAddr| {
            address.set_port(address.port().checked_add(distance)?);
            Some(address)
        };
        for place in places {
            let Some(node) = document.pointer_mut(&place) else {
                continue;
            };
            let Some(mut address) = shift(address(node)?) else {
                return Ok(None);
            };
            if address.ip().is_unspecified() {
                address.set_ip(Ipv4Addr::LOCALHOST.into());
            }
            node["address"] = json!(address.to_string());
        }
        let Some(control) = shift(self.control) else {
            return Ok(None);
        };
        Self::from_document(document, control).map(Some)
    }

    /// The same configuration with shifting switched off: the risk is computed, and nothing moves.
    pub fn without_shift(&self) -> Self {
        let mut without = self.clone();
        if let Some(shift) = without.document["clusters"][0]
            .get_mut("shift")
            .and_then(Value::as_object_mut)
        {
            shift.insert("enabled".to_owned(), json!(false));
        } else {
            without.document["clusters"][0]["shift"] = json!({ "enabled": false });
        }
        without
    }

    /// The same configuration for the endpoints of `site`; itself where that has the usual ones, which are its own.
    pub fn for_site(&self, site: Site) -> Result<Self> {
        if site == Site::Pairs {
            return Ok(self.clone());
        }
        let pairs = site.pairs();
        let mut ports = self.endpoints.iter().map(|spec| spec.address);
        let mut next = || ports.next().context("the configuration has too few endpoints");
        let mut other = self.document.clone();
        let cluster = &mut other["clusters"][0];
        let mut members = Vec::new();
        for Pair { primary, shadow } in &pairs {
            members.push(json!({ "name": primary, "address": next()?.to_string(), "shadow": shadow }));
        }
        cluster["endpoints"] = json!(members);
        let mut shadows = Vec::new();
        for name in standbys(&pairs) {
            shadows.push(json!({ "name": name, "address": next()?.to_string() }));
        }
        cluster["shadows"] = json!(shadows);
        Self::from_document(other, self.control)
    }

    /// The same configuration with everything that is kept in files in `folder`.
    pub fn keeping_files_in(&self, folder: &Path) -> Self {
        let mut other = self.clone();
        for (section, key, file) in [
            ("/controller", "store", "controller.redb"),
            ("/follow", "planFile", "plan"),
        ] {
            if let Some(section) = other.document.pointer_mut(section) {
                section[key] = json!(folder.join(file));
            }
        }
        other
    }

    /// The same configuration with another store for the controller.
    pub fn with_store(&self, store: Value) -> Self {
        let mut other = self.clone();
        if let Some(section) = other.document.pointer_mut("/controller") {
            section["store"] = store;
        }
        other
    }

    /// The same configuration with this balancing.
    pub fn with_balance(&self, policy: &str) -> Self {
        let mut other = self.clone();
        other.document["clusters"][0]["balance"] = json!(policy);
        other
    }

    /// The same configuration with this many workers.
    pub fn with_workers(&self, workers: usize) -> Self {
        let mut other = self.clone();
        other.document["workers"] = json!(workers);
        other
    }

    /// Three configurations to go through in turn: this one; one in which the last pair has gone, and a cluster with a
    /// route of its own has come; one with another listener, two ports after the control's, and the members in another
    /// order.
    pub fn turns(&self) -> [Self; 3] {
        let (mut fewer, mut other) = (self.clone(), self.clone());
        for list in ["endpoints", "shadows"] {
            let pointer = format!("/clusters/0/{list}");
            if let Some(members) = fewer.document.pointer_mut(&pointer).and_then(Value::as_array_mut) {
                members.pop();
            }
            if let Some(members) = other.document.pointer_mut(&pointer).and_then(Value::as_array_mut) {
                members.reverse();
            }
        }
        let address = self.endpoints.first().map(|e| e.address.to_string());
        let extra = json!({ "name": "extra", "endpoints": [{ "name": "x", "address": address }] });
        let route = json!({ "match": { "path": { "prefix": "/b" } }, "cluster": "extra" });
        for (pointer, value) in [("/clusters", extra), ("/listeners/0/routes", route)] {
            if let Some(list) = fewer.document.pointer_mut(pointer).and_then(Value::as_array_mut) {
                list.push(value);
            }
        }
        let mut listener = other.document["listeners"][0].clone();
        let mut beside = self.control;
        // The next one is the admin interface's, by default.
        beside.set_port(beside.port().saturating_add(2));
        listener["name"] = json!("beside");
        listener["address"] = json!(beside.to_string());
        if let Some(listeners) = other.document["listeners"].as_array_mut() {
            listeners.push(listener);
        }
        [self.clone(), fewer, other]
    }

    /// The same configuration with a share of all requests mirrored to the shadows.
    pub fn with_mirror(&self, share: &str) -> Self {
        let mut other = self.clone();
        other.document["listeners"][0]["routes"][0]["mirror"] = json!({ "target": "shadow", "share": share });
        other
    }

    /// The same configuration as an edge would have it: two workers, routes that rewrite and edit and answer by
    /// themselves, a mirror of some per cent, an endpoint by its name, names of requests, and an access log at `log`. A
    /// hundredth of the requests is logged, or the disk is what is measured. To be called on the ports that are meant:
    /// [`Topology::on_free_ports`] does not know the parts that come here.
    pub fn as_edge(&self, log: &Path) -> Self {
        let mut other = self.with_workers(2);
        let document = &mut other.document;
        let named = self
            .endpoints
            .first()
            .map(|e| format!("localhost:{}", e.address.port()));
        document["accessLog"] = json!({ "to": log, "sample": "1%" });
        document["requestId"] = json!({ "make": true });
        document["trace"] = json!({ "mode": "start", "sampled": "1%" });
        document["listeners"][0]["trustedProxies"] = json!(["127.0.0.0/8"]);
        // Connections come to their end under load, too.
        document["listeners"][0]["limits"] = json!({ "requests": 5_000 });
        document["clusters"][0]["health"] = json!({ "http": { "path": "/healthz" }, "interval": "1s" });
        let shop = document["clusters"][0]["name"].clone();
        let edits = json!({
            "remove": ["x-debug"],
            "set": [{ "name": "x-user-address", "value": "{client_ip}" }],
            "add": [{ "name": "via", "value": "1.1 foreshade" }],
        });
        let mirror = json!({ "target": "shadow", "share": "3%", "writes": { "share": "1%" } });
        document["listeners"][0]["routes"][0]["mirror"] = mirror.clone();
        let routes = [
            json!({
                "match": { "path": { "prefix": "/b" }, "methods": ["GET", "POST"] },
                "cluster": shop,
                "rewrite": { "prefix": "/a" },
                "requestHeaders": edits,
                "responseHeaders": { "set": [{ "name": "x-content-type-options", "value": "nosniff" }] },
                "mirror": mirror,
            }),
            json!({ "match": { "path": { "prefix": "/named" } }, "cluster": "named" }),
            json!({ "match": { "path": { "exact": "/robots.txt" } }, "respond": { "status": 200, "body": "User-agent: *" } }),
            json!({ "match": { "path": { "prefix": "/old" } }, "redirect": { "prefix": "/a", "status": 308 } }),
        ];
        let by_name = json!({ "name": "named", "endpoints": [{ "name": "n", "address": named }] });
        for (pointer, values) in [
            ("/listeners/0/routes", routes.to_vec()),
            ("/clusters", vec![by_name]),
        ] {
            if let Some(list) = document.pointer_mut(pointer).and_then(Value::as_array_mut) {
                list.extend(values);
            }
        }
        other
    }

    /// The file for the proxy.
    pub fn text(&self) -> String {
        format!("{:#}\n", self.document)
    }

    /// Where users connect.
    pub fn users(&self) -> SocketAddr {
        self.users
    }

    /// The proxy's admin interface.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The farm's control.
    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// Primaries in the order of the file, then shadows.
    pub fn endpoints(&self) -> &[EndpointSpec] {
        &self.endpoints
    }

    /// Primaries in the order of the file, with their shadows.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// Where its controller listens.
    pub fn controller(&self) -> Option<ControllerAt> {
        self.controller
    }

    /// What the controller calls the pair of this primary.
    pub fn pair_id(&self, primary: &str) -> String {
        let cluster = self.document["clusters"][0]["name"].as_str();
        format!("{}/{primary}", cluster.unwrap_or_default())
    }

    fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let fixed = [self.users, self.admin, self.control];
        let led = self.controller.map(|at| [at.api, at.link]);
        fixed
            .into_iter()
            .chain(led.into_iter().flatten())
            .chain(self.endpoints.iter().map(|endpoint| endpoint.address))
    }
}

/// Sets the header that names the load's users as the cohort, unless the file says so already.
fn tell_users_apart(document: &mut Value) -> Result<()> {
    let cluster = &mut document["clusters"][0];
    match cluster.get("cohort") {
        None => {}
        Some(Value::String(word)) if word == "client-address" => {}
        Some(cohort) => {
            let header = cohort.get("header").and_then(Value::as_str);
            ensure!(
                header.is_some_and(|header| header.eq_ignore_ascii_case(USER_HEADER)),
                "users of the load differ in the header {USER_HEADER}, and the file tells them apart by something else"
            );
        }
    }
    cluster["cohort"] = json!({ "header": USER_HEADER });
    Ok(())
}

fn members<'a>(cluster: &'a Value, list: &str) -> &'a [Value] {
    cluster
        .get(list)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Where the controller listens; both addresses have to be written down, or they cannot be moved.
fn controller(document: &Value) -> Result<Option<ControllerAt>> {
    let Some(controller) = document.get("controller") else {
        return Ok(None);
    };
    Ok(Some(ControllerAt {
        api: address(&controller["api"]).context("the controller's api")?,
        link: address(&controller["link"]).context("the controller's link")?,
    }))
}

fn spec(member: &Value) -> Result<EndpointSpec> {
    let name = member
        .get("name")
        .and_then(Value::as_str)
        .context("an endpoint without a name")?;
    Ok(EndpointSpec {
        name: name.to_owned(),
        address: address(member)?,
    })
}

fn address(node: &Value) -> Result<SocketAddr> {
    let text = node
        .get("address")
        .and_then(Value::as_str)
        .context("an address is missing")?;
    text.parse()
        .with_context(|| format!("{text} is not an address with a port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: foreshade/v1
listeners:
  - { name: web, address: 0.0.0.0:8080, routes: [{ cluster: shop }] }
clusters:
  - name: shop
    cohort: { header: X-User }
    endpoints:
      - { name: a, address: 127.0.0.1:9001, shadow: a-standby }
      - { name: b, address: 127.0.0.1:9002 }
    shadows:
      - { name: a-standby, address: 127.0.0.1:9101 }
";

    #[test]
    fn a_word_that_was_a_boolean_once_stays_a_word() {
        let text = FILE.replace("{ name: web,", "{ name: web, forwarded: off,");
        let topology = Topology::parse(&text).unwrap();
        assert_eq!(
            topology.document.pointer("/listeners/0/forwarded"),
            Some(&Value::from("off"))
        );
    }

    #[test]
    fn the_members_of_a_configuration_are_found() {
        let topology = Topology::parse(FILE).unwrap();
        let names: Vec<_> = topology
            .endpoints()
            .iter()
            .map(|endpoint| endpoint.name.as_str())
            .collect();
        assert_eq!(names, ["a", "b", "a-standby"]);
        assert_eq!(topology.pairs()[0].shadow.as_deref(), Some("a-standby"));
        assert_eq!(topology.pairs()[1].shadow, None);
        assert_eq!(topology.users(), "127.0.0.1:8080".parse().unwrap());
        assert_eq!(topology.admin(), "127.0.0.1:9901".parse().unwrap());
    }

    #[test]
    fn moving_changes_every_address_and_nothing_else() {
        let moved = Topology::parse(FILE).unwrap().moved(40).unwrap().unwrap();
        let ports: Vec<_> = moved.addresses().map(|address| address.port()).collect();
        assert_eq!(ports, [8120, 9941, 9940, 9041, 9042, 9141]);
        let read_again = Topology::parse(&moved.text()).unwrap();
        assert_eq!(read_again.pairs(), moved.pairs());
        assert_eq!(read_again.document, moved.document);
    }

    #[test]
    fn a_file_for_both_is_moved_with_its_controller_and_what_it_keeps() {
        let both = format!(
            "{FILE}\nfollow: {{ address: 127.0.0.1:9903 }}\n\
             controller: {{ api: {{ address: 127.0.0.1:9902 }}, link: {{ address: 127.0.0.1:9903 }} }}\n"
        );
        let moved = Topology::parse(&both).unwrap().moved(40).unwrap().unwrap();
        let at = moved.controller().unwrap();
        assert_eq!((at.api.port(), at.link.port()), (9942, 9943));
        assert_eq!(moved.document["follow"]["address"], json!("127.0.0.1:9943"));
        assert!(moved.addresses().any(|address| address == at.link));
        let kept = moved.keeping_files_in(Path::new("/tmp/x"));
        assert_eq!(
            kept.document["controller"]["store"],
            json!("/tmp/x/controller.redb")
        );
        assert_eq!(kept.document["follow"]["planFile"], json!("/tmp/x/plan"));
        assert_eq!(kept.pair_id("b"), "shop/b");
        let vague = both.replace("api: { address: 127.0.0.1:9902 }, ", "");
        let error = format!("{:#}", Topology::parse(&vague).unwrap_err());
        assert!(error.contains("the controller's api"), "{error}");
    }

    #[test]
    fn ports_that_are_taken_are_avoided() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let moved = Topology::parse(&FILE.replace("9002", &port.to_string()))
            .unwrap()
            .on_free_ports();
        assert!(moved.is_err() || moved.unwrap().addresses().all(|address| address.port() != port));
    }

    #[test]
    fn shifting_is_switched_off_without_losing_the_other_settings() {
        let with = FILE.replace("    endpoints:", "    shift: { canary: 2% }\n    endpoints:");
        for file in [FILE, with.as_str()] {
            let without = Topology::parse(file).unwrap().without_shift();
            assert_eq!(without.document["clusters"][0]["shift"]["enabled"], json!(false));
        }
        let without = Topology::parse(&with).unwrap().without_shift();
        assert_eq!(without.document["clusters"][0]["shift"]["canary"], json!("2%"));
    }

    #[test]
    fn users_are_told_apart_by_the_header_that_names_them() {
        let cohort = "    cohort: { header: X-User }\n";
        for kept in [cohort, "", "    cohort: client-address\n"] {
            let topology = Topology::parse(&FILE.replace(cohort, kept)).unwrap();
            assert_eq!(
                topology.document["clusters"][0]["cohort"],
                json!({ "header": "x-user" })
            );
        }
        let by_cookie = FILE.replace(cohort, "    cohort: { cookie: id }\n");
        let error = Topology::parse(&by_cookie).unwrap_err().to_string();
        assert!(error.contains("by something else"), "{error}");
    }
}
