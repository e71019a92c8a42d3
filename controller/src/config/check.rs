//! What no value can know alone: that names exist and are unique, that addresses are free, that strangers need a token.
//!
//! Runs also after mistakes of reading, on whatever was understood, and does not report what only follows from an
//! earlier mistake. `None` for a part means that something is wrong with it, and reported.

use std::collections::HashMap;

use foreshade_contract::{Name, PairId};
use foreshade_settings::{
    AdminAddress, AdminWritten, At, List, Mistake, Mistakes, Names, Reference, Resolve, address, admin,
    is_of_this_machine, quoted,
};

use super::clusters::Clusters;
use super::{
    Api, Config, Etcd, Group, Link, Links, Notification, Pair, PlannedStore, Tls, keys, placement, policy,
};
use crate::journal::ENTRIES_MAX;

/// The name of the policy of pairs that name none.
pub(super) const DEFAULT: &str = "default";

/// Most pairs: what one controller has been built for.
const PAIRS_MAX: usize = 10_000;

/// Checks a file as a whole.
pub(super) fn config(file: keys::File, resolve: &Resolve<'_>, mistakes: &mut Mistakes) -> Option<Config> {
    let clusters = &file.clusters;
    let controller = file.controller?;
    let link = link(controller.link, resolve, mistakes);
    let api = api(controller.api, link.as_ref(), resolve, mistakes);
    let names = Names::collect(
        "policy",
        controller
            .policies
            .items
            .iter()
            .map(|policy| policy.name.as_ref()),
        controller.policies.whole,
        mistakes,
    );
    let policies: Vec<_> = controller
        .policies
        .items
        .into_iter()
        .map(|raw| policy::policy(raw, mistakes))
        .collect();
    let mut policies: Option<Vec<_>> = policies.into_iter().collect();
    let default = names.position(DEFAULT).unwrap_or_else(|| {
        policies
            .iter_mut()
            .for_each(|policies| policies.push(policy::unwritten()));
        policies.as_ref().map_or(0, |policies| policies.len() - 1)
    });
    let pairs = match controller.pairs {
        Some(written) => pairs(&written.value, clusters, &names, default, mistakes),
        None => Some(of_clusters(clusters, default)),
    };
    if let Some(pairs) = pairs.as_ref().filter(|pairs| pairs.len() > PAIRS_MAX) {
        let what = format!("{} pairs, and one controller keeps {PAIRS_MAX}", pairs.len());
        mistakes.add(Mistake::of_the_file(what));
    }
    if let Some(pairs) = &pairs {
        placement::check_idle(clusters, pairs, mistakes);
    }
    let groups = groups(controller.groups, pairs.as_deref(), mistakes);
    let notifications = notifications(controller.notifications, mistakes);
    // The only version there is; a second one needs a second reader.
    let keys::ApiVersion = file.api_version?;
    Some(Config {
        store: store(controller.store)?,
        link: link?,
        api: api?,
        placement: placement::placement(controller.placement, clusters, mistakes),
        policies: policies?,
        pairs: pairs?,
        groups: groups?,
        notifications: notifications?,
    })
}

fn store(written: keys::Store) -> Option<PlannedStore> {
    Some(match written {
        keys::Store::Embedded(path) => PlannedStore::Embedded(path),
        keys::Store::Etcd(etcd) => PlannedStore::Etcd(Etcd {
            endpoints: etcd.endpoints?.items,
            prefix: etcd.prefix.0,
            lease: etcd.lease.0,
        }),
    })
}

fn link(written: keys::Link, resolve: &Resolve<'_>, mistakes: &mut Mistakes) -> Option<Link> {
    let found = address(Some(&written.address), resolve, mistakes)?;
    let before = mistakes.count();
    let tls = written.tls.map(|tls| {
        Some(Tls {
            certificate: tls.certificate?.0,
            key: tls.key?.0,
            proxies: tls.proxies.map(|path| path.0),
        })
    });
    let knows_proxies =
        written.token_file.is_some() || matches!(&tls, Some(Some(tls)) if tls.proxies.is_some());
    if !knows_proxies && !is_of_this_machine(found.value.ip()) && mistakes.count() == before {
        let what = format!(
            "address: {} can be reached from elsewhere, and nothing is asked of whoever calls himself a proxy",
            found.value
        );
        mistakes.add(
            Mistake::at(found.place(), what)
                .expected("a loopback address, a tokenFile, or tls with proxies")
                .hint("add tokenFile: with the path of a file that holds a secret".to_owned()),
        );
    }
    Some(Link {
        address: found.value,
        token_file: written.token_file.map(|path| path.0),
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
    })
}

fn api(
    written: keys::Api,
    link: Option<&Link>,
    resolve: &Resolve<'_>,
    mistakes: &mut Mistakes,
) -> Option<Api> {
    let place = written.address.place();
    let links = written.links.map(|links| {
        Some(Links {
            url: links.url?,
            key_file: links.key_file?.0,
            life: links.life.0,
        })
    });
    let written = AdminWritten {
        address: written.address,
        mode: written.mode,
        token_file: written.token_file,
        without_token: written.without_token,
    };
    let door = admin(written, resolve, mistakes)?;
    if let (AdminAddress::Tcp(api), Some(link)) = (&door.address, link)
        && *api == link.address
    {
        let what = format!("address: {api} is taken by the link");
        mistakes.add(Mistake::at(place, what).expected("an address of its own"));
    }
    Some(Api {
        door,
        links: match links {
            Some(links) => Some(links?),
            None => None,
        },
    })
}

/// The pairs that the proxy's clusters have.
fn of_clusters(clusters: &Clusters, policy: usize) -> Vec<Pair> {
    let pairs = clusters.known.iter().flat_map(|cluster| {
        let with_shadow = cluster.endpoints.iter().filter(|(_, shadow)| shadow.is_some());
        with_shadow.map(move |(primary, shadow)| Pair {
            id: PairId {
                cluster: cluster.name.clone(),
                primary: primary.name.clone(),
            },
            shadow: shadow.clone(),
            policy,
        })
    });
    pairs.collect()
}

fn pairs(
    written: &List<keys::Pair, 1>,
    clusters: &Clusters,
    policies: &Names,
    default: usize,
    mistakes: &mut Mistakes,
) -> Option<Vec<Pair>> {
    let mut lines = HashMap::new();
    let mut found = Vec::new();
    for raw in &written.items {
        let policy = match &raw.policy {
            Some(named) => policies.find("policy", Some(named), mistakes),
            None => Some(default),
        };
        let members = members(raw, clusters, mistakes);
        let (Some(policy), Some((id, shadow))) = (policy, members) else {
            found.push(None);
            continue;
        };
        let place = raw.primary.as_ref().and_then(At::place);
        if let Some(line) = lines.insert(id.clone(), place.map(|place| place.line)) {
            let mistake =
                Mistake::at(place, format!("the pair {id} stands here twice")).expected("each pair once");
            mistakes.add(mistake.hint(line.map(|line| format!("line {line} has it already"))));
        }
        found.push(Some(Pair { id, shadow, policy }));
    }
    written.whole.then_some(())?;
    found.into_iter().collect()
}

/// Who a pair consists of: checked against the clusters of the file, where it has some.
fn members(raw: &keys::Pair, clusters: &Clusters, mistakes: &mut Mistakes) -> Option<(PairId, Option<Name>)> {
    let (cluster, primary) = (raw.cluster.as_ref()?, raw.primary.as_ref()?);
    let named = |reference: &At<Reference>, mistakes: &mut Mistakes| -> Option<Name> {
        let name = reference.value.0.parse().ok();
        if name.is_none() {
            let what = format!("{} is no name", quoted(&reference.value.0));
            mistakes.add(Mistake::at(reference.place(), what).expected("letters, digits, '.', '_' and '-'"));
        }
        name
    };
    let id = PairId {
        cluster: named(cluster, mistakes)?,
        primary: named(primary, mistakes)?,
    };
    let shadow = match &raw.shadow {
        Some(shadow) => Some(named(shadow, mistakes)?),
        None => None,
    };
    if clusters.known.is_empty() {
        return Some((id, shadow));
    }
    let known = clusters.find(cluster, mistakes)?;
    for member in [Some(primary), raw.shadow.as_ref()].into_iter().flatten() {
        let _ = known.expect(member, mistakes);
    }
    if shadow.as_ref() == Some(&id.primary) {
        let place = raw.shadow.as_ref().and_then(At::place);
        mistakes.add(
            Mistake::at(place, format!("{} is its own shadow", id.primary)).expected("another endpoint"),
        );
    }
    let of_the_file = known
        .endpoints
        .iter()
        .find(|(member, _)| member.name == id.primary);
    let shadow = shadow.or_else(|| of_the_file.and_then(|(_, shadow)| shadow.clone()));
    Some((id, shadow))
}

fn groups(
    written: List<keys::Group, 0>,
    pairs: Option<&[Pair]>,
    mistakes: &mut Mistakes,
) -> Option<Vec<Group>> {
    Names::collect(
        "group",
        written.items.iter().map(|group| group.name.as_ref()),
        written.whole,
        mistakes,
    );
    let known: Vec<(String, &PairId)> = pairs
        .unwrap_or_default()
        .iter()
        .map(|pair| (pair.id.to_string(), &pair.id))
        .collect();
    let mut taken = HashMap::new();
    let mut found = Vec::new();
    for raw in written.items {
        let mut members = Some(Vec::new());
        if let Some(written) = raw.pairs.as_ref().filter(|pairs| pairs.items.len() > ENTRIES_MAX) {
            let place = raw.name.as_ref().and_then(At::place);
            let what = format!("the group has {} pairs", written.items.len());
            let expected =
                format!("at most {ENTRIES_MAX}: what they decide together is written down at once");
            mistakes.add(Mistake::at(place, what).expected(expected));
        }
        for name in raw.pairs.iter().flat_map(|pairs| &pairs.items) {
            let word = name.value.0.as_str();
            let id = known
                .iter()
                .find(|(known, _)| known == word)
                .map(|(_, id)| (*id).clone());
            if id.is_none() && pairs.is_some() {
                let hint = mistakes.did_you_mean(word, known.iter().map(|(known, _)| known.as_str()));
                mistakes.add(Mistake::at(name.place(), format!("unknown pair {}", quoted(word))).hint(hint));
            }
            if let Some(line) = taken.insert(word.to_owned(), name.place().map(|place| place.line)) {
                let what = format!("the pair {word} is in a group already");
                let mistake = Mistake::at(name.place(), what).expected("a pair in one group, once");
                mistakes.add(mistake.hint(line.map(|line| format!("it stands in line {line}"))));
            }
            members = members.zip(id).map(|(mut members, id)| {
                members.push(id);
                members
            });
        }
        let group = raw.name.zip(members.filter(|_| raw.pairs.is_some()));
        found.push(group.map(|(name, pairs)| Group {
            name: name.value,
            pairs,
        }));
    }
    found.into_iter().collect()
}

fn notifications(written: List<keys::Notification, 0>, mistakes: &mut Mistakes) -> Option<Vec<Notification>> {
    let names = written
        .items
        .iter()
        .map(|notification| notification.name.as_ref());
    Names::collect("notification", names, written.whole, mistakes);
    let checked = written.items.into_iter().map(|raw| {
        Some(Notification {
            name: raw.name?.value,
            webhook: raw.webhook?,
            on: raw.on.items,
            timeout: raw.timeout.0,
            attempts: raw.attempts.0,
            pause: raw.pause.0,
        })
    });
    checked.collect()
}
