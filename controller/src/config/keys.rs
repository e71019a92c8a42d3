//! Every key of the controller's part of the file: its name, type, default and meaning. Each is declared here once.
//!
//! What one value alone can tell about itself is known here; what needs a second one (does the policy exist? does the
//! margin lie above the tolerance?) `check` decides.

mod placement;
mod policy;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use foreshade_contract::Name;
use foreshade_settings::{
    AbsolutePath, Address, AdminPlace, At, Choice, Count, Elsewhere, Json, Lasting, List, Mistakes, Mode,
    Node, Read, Reference, Scalar, Shown, Value, WithoutToken, Wrong, choice, millis, scalar, seconds,
    section, text,
};
use serde_json::json;

use super::Occasion;
use super::clusters::Clusters;
use super::url::Url;

pub(crate) use self::placement::{Known, Placement};
pub(crate) use self::policy::{
    Drill, Gate, GateAt, Inconclusive, Metric, MirrorUse, OldPrimary, Policy, Rehearsed, Rollback, Times,
    Verdict, Window,
};

/// A time that something may take.
pub(crate) type Patience = Lasting<10, 604_800_000>;

section! {
    /// The whole file. A proxy may read the same one; what is the proxy's is declared here, and checked there.
    File "the file":
    /// Version of this format.
    api_version "apiVersion": required ApiVersion;
    /// The controller.
    controller "controller": required Controller;
    /// The proxy's; the controller reads names of clusters, endpoints and shadows out of it.
    clusters "clusters": default Clusters = Clusters::default();
    /// The proxy's, and checked by it.
    _listeners "listeners": optional Elsewhere;
    /// The proxy's, and checked by it.
    _admin "admin": optional Elsewhere;
    /// The proxy's, and checked by it.
    _follow "follow": optional Elsewhere;
    /// The proxy's; known here, and checked by foreshade-proxy.
    _access_log "accessLog": optional Elsewhere;
    /// The proxy's, and checked by it.
    _request_id "requestId": optional Elsewhere;
    /// The proxy's, and checked by it.
    _trace "trace": optional Elsewhere;
    /// The proxy's, and checked by it.
    _acme "acme": optional Elsewhere;
    /// The proxy's, and checked by it.
    _workers "workers": optional Elsewhere;
    /// The proxy's, and checked by it.
    _relay "relay": optional Elsewhere;
    /// The proxy's, and checked by it.
    _grace "grace": optional Elsewhere;
    /// The proxy's, and checked by it.
    _upgrade "upgrade": optional Elsewhere;
    /// The proxy's, and checked by it.
    _dns "dns": optional Elsewhere;
}

/// The versions of the format that this program reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ApiVersion;

impl Choice for ApiVersion {
    const ALL: &'static [(&'static str, Self)] = &[("foreshade/v1", Self)];
}

section! {
    /// The controller.
    Controller "the controller section":
    /// Where everything lives that must survive: the path of a file on this machine, or a mapping with the key etcd.
    store "store": default Store = Store::Embedded(PathBuf::from("/var/lib/foreshade/controller.redb"));
    /// Where proxies connect.
    link "link": nested Link;
    /// Where operators look and act.
    api "api": nested Api;
    /// Which shadows are chosen for whom, where the file does not say.
    placement "placement": nested Placement;
    /// How pairs live and are judged. The one called default is for all pairs that name none.
    policies "policies": list List<Policy, 0>;
    /// The pairs; where left out, those of the clusters of this file.
    pairs "pairs": optional At<List<Pair, 1>>;
    /// Pairs that move together: one verdict, and an ordered rollback.
    groups "groups": list List<Group, 0>;
    /// Who is told what happens.
    notifications "notifications": list List<Notification, 0>;
}

/// Where the controller's state lives.
#[derive(Debug)]
pub(crate) enum Store {
    Embedded(PathBuf),
    Etcd(Box<Etcd>),
}

section! {
    /// The long form of [`Store`].
    StoreSection "a store section":
    /// A cluster of etcd servers, for more than one controller.
    etcd "etcd": required Etcd;
}

section! {
    /// A cluster of etcd servers.
    Etcd "an etcd section":
    /// Its members, as http://10.0.0.1:2379.
    endpoints "endpoints": required List<Url, 1>;
    /// What stands before each key, for several controllers in one cluster.
    prefix "prefix": default Prefix = Prefix("/foreshade".to_owned());
    /// Life of the lease of the controller that acts: after so long without a word from it another one takes over.
    lease "lease": default Lasting<1000, 60_000> = seconds(5);
}

text! {
    /// The beginning of keys.
    Prefix(String), "a prefix that starts with a slash and has no slash at its end", |text| {
        let sound = text.len() > 1 && text.len() <= 200 && text.starts_with('/') && !text.ends_with('/')
            && text.bytes().all(|b| b.is_ascii_graphic());
        if sound { Ok(text.to_owned()) } else { Err(Wrong::default()) }
    }, "^/[!-~]{0,198}[!-.0-~]$"
}

impl Read for Store {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            let section = StoreSection::read(node, key, mistakes)?;
            return section.etcd.map(|etcd| Self::Etcd(Box::new(etcd)));
        }
        scalar(node, key, &Self::title(), mistakes).map(|path: AbsolutePath| Self::Embedded(path.0))
    }

    fn title() -> String {
        "the absolute path of a file, or a mapping with the key etcd".to_owned()
    }

    fn schema() -> Json {
        json!({ "anyOf": [<AbsolutePath as Read>::schema(), StoreSection::schema()] })
    }
}

impl Shown for Store {
    fn shown(&self) -> Json {
        match self {
            Self::Embedded(path) => path.display().to_string().into(),
            // No default.
            Self::Etcd(_) => "etcd".into(),
        }
    }
}

section! {
    /// Where proxies connect.
    Link "a link section":
    /// Address to listen on. Beyond loopback it needs tokenFile or tls.
    address "address": default At<Address> = Address::Ip((Ipv4Addr::LOCALHOST, 9903).into());
    /// File with the bearer token that every proxy then has to present.
    token_file "tokenFile": optional AbsolutePath;
    /// Certificates, so that both sides know each other.
    tls "tls": optional Tls;
}

section! {
    /// Certificates in PEM.
    Tls "a tls section":
    /// File with the certificate of the controller, and what leads to its authority.
    certificate "certificate": required AbsolutePath;
    /// File with its key.
    key "key": required AbsolutePath;
    /// File with the authorities whose certificates proxies have to present; none are asked for where left out.
    proxies "proxies": optional AbsolutePath;
}

section! {
    /// Where operators look and act.
    Api "an api section":
    /// Address of the API, or unix: and the path of a socket. Whoever reaches it can act; beyond loopback it needs
    /// tokenFile.
    address "address": default At<AdminPlace> = AdminPlace::Tcp(Address::Ip((Ipv4Addr::LOCALHOST, 9902).into()));
    /// Who may connect to the socket, in octal; 0600 where left out. Only with unix:.
    mode "mode": optional At<Mode>;
    /// File with the bearer token that every request then needs. Others may not read it, the group may not write it.
    token_file "tokenFile": optional AbsolutePath;
    /// What may be asked without the token: each word includes those before it; health is /healthz and /readyz, reading
    /// is everything but commands.
    without_token "withoutToken": default WithoutToken = WithoutToken::Health;
    /// Links by which a gate is opened with one click; none where left out.
    links "links": optional Links;
}

section! {
    /// Links that carry their own right to open one gate once.
    Links "a links section":
    /// Where people reach this API from outside, as https://foreshade.example.
    url "url": required Url;
    /// File with the secret that links are signed with.
    key_file "keyFile": required AbsolutePath;
    /// How long a link is good for.
    life "life": default Lasting<60_000, 604_800_000> = seconds(86_400);
}

section! {
    /// A primary and its shadow.
    Pair "a pair":
    /// Name of the cluster.
    cluster "cluster": required At<Reference>;
    /// Name of the endpoint that is the primary.
    primary "primary": required At<Reference>;
    /// Name of its shadow; where left out, that of the cluster, or one that placement chooses.
    shadow "shadow": optional At<Reference>;
    /// Name of the policy.
    policy "policy": optional At<Reference>;
}

section! {
    /// Pairs that move together.
    Group "a group":
    /// Name, unique among groups.
    name "name": required At<Name>;
    /// Its pairs, 25 at most, as cluster/primary, in the order in which they advance; rolled back in the opposite one.
    pairs "pairs": required List<At<PairName>, 2>;
}

/// A pair by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PairName(pub(crate) String);

impl Scalar for PairName {
    fn expected() -> String {
        "a pair, as cluster/primary".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let parts = text.split_once('/').map(|(cluster, primary)| [cluster, primary]);
        let sound = parts.is_some_and(|parts| parts.iter().all(|name| name.parse::<Name>().is_ok()));
        if sound {
            Ok(Self(text.to_owned()))
        } else {
            Err(Wrong::default())
        }
    }

    fn schema() -> Json {
        foreshade_settings::patterned("^[A-Za-z0-9][A-Za-z0-9._-]{0,62}/[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    }
}

section! {
    /// Somebody who is told what happens.
    Notification "a notification":
    /// Name, unique among notifications.
    name "name": required At<Name>;
    /// Where it is posted, in Flagger's form.
    webhook "webhook": required Url;
    /// What is told; everything where left out.
    on "on": list List<Occasion, 0>;
    /// How long one attempt may take.
    timeout "timeout": default Lasting<100, 60_000> = seconds(10);
    /// Attempts in all, with growing pauses between them.
    attempts "attempts": default Count<1, 20> = Count(6);
    /// The first pause; doubled each time.
    pause "pause": default Lasting<10, 60_000> = millis(500);
}

text! {
    /// Some words.
    Line(String), "one line of at most 200 characters", |text| {
        let sound = !text.trim().is_empty() && text.chars().count() <= 200 && !text.contains(char::is_control);
        if sound { Ok(text.to_owned()) } else { Err(Wrong::default()) }
    }, "^.{1,200}$"
}

choice!(Occasion:
    "shift" Shift, "advance" Advance, "hold" Hold, "gate" Gate, "promotion" Promotion, "rollback" Rollback,
    "failover" Failover, "frozen" Frozen, "command" Command, "drill" Drill);
