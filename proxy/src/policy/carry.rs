//! What stays the same in a new configuration goes on with what has been used up of it.
//!
//! A reload, or a name with another address, must not give every client a new burst. A listener is known by its
//! address, a route by what it matches, a cluster by its name, a part of a policy by what it says. Keys of an issuer
//! are known by where they are fetched alone: whatever else is asked of tokens now, nobody is locked out because the
//! issuer is down at this moment.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::jwks::remote::Remote;
use super::{Gate, Policy};
use crate::config::Config;

/// Lets policies go on that are in both configurations.
pub(crate) fn carry_over(before: &Config, after: &mut Config) {
    for listener in &mut after.listeners {
        let Some(old) = before
            .listeners
            .iter()
            .find(|old| old.address == listener.address)
        else {
            continue;
        };
        carry(old.policy.as_ref(), &mut listener.policy);
        // By what a match is as text: its patterns make it no key of its own.
        let policed = old.routes.iter().filter(|route| route.policy.is_some());
        let old_routes: HashMap<_, _> = policed
            .map(|route| (format!("{:?}", route.matches), route))
            .collect();
        for route in listener.routes.iter_mut().filter(|route| route.policy.is_some()) {
            let same = old_routes.get(&format!("{:?}", route.matches));
            carry(same.and_then(|same| same.policy.as_ref()), &mut route.policy);
        }
    }
    share_keys(issuers(before).cloned().collect(), after);
    for cluster in after.clusters.iter_mut().filter(|cluster| cluster.gate.is_some()) {
        let same = before.clusters.iter().find(|old| old.name == cluster.name);
        carry_gate(same.and_then(|same| same.gate.as_ref()), &mut cluster.gate);
    }
    for cluster in &mut after.clusters {
        let same = before.clusters.iter().find(|old| old.name == cluster.name);
        if let Some(same) = same.filter(|same| same.sticky == cluster.sticky) {
            // With the keys that it has: the file may be broken just now.
            cluster.sticky = same.sticky.clone();
        }
    }
}

fn carry(before: Option<&Arc<Policy>>, after: &mut Option<Arc<Policy>>) {
    let (Some(before), Some(new)) = (before, after.as_ref()) else {
        return;
    };
    let mut carried = Policy::clone(new);
    for limit in &mut carried.rates {
        if let Some(same) = before.rates.iter().find(|same| *same == limit) {
            *limit = same.clone();
        }
    }
    carry_gate(before.gate.as_ref(), &mut carried.gate);
    if let Some(before) = before
        .basic
        .as_ref()
        .filter(|before| carried.basic.as_ref() == Some(*before))
    {
        carried.basic = Some(before.clone());
    }
    if let Some(before) = before
        .jwt
        .as_ref()
        .filter(|before| carried.jwt.as_ref() == Some(*before))
    {
        carried.jwt = Some(before.clone());
    }
    if let Some(before) = before
        .authorize
        .as_ref()
        .filter(|before| carried.authorize.as_ref() == Some(*before))
    {
        carried.authorize = Some(before.clone());
    }
    if let Some(before) = before
        .faults
        .as_ref()
        .filter(|before| carried.faults.as_ref() == Some(*before))
    {
        carried.faults = Some(before.clone());
    }
    *after = Some(Arc::new(carried));
}

/// Keys of those who sign tokens, as far as they are fetched: each once.
pub(crate) fn issuers(config: &Config) -> impl Iterator<Item = &Arc<Remote>> {
    let mut seen = HashSet::new();
    let policies = config.policies();
    let all = policies.filter_map(|(_, _, policy)| policy.jwt.as_ref()?.remote());
    all.filter(move |remote| seen.insert(Arc::as_ptr(remote)))
}

/// Keys that are in one place are fetched once, for whoever asks for them; those of `known` are fetched already.
pub(crate) fn share_keys(mut known: Vec<Arc<Remote>>, config: &mut Config) {
    for listener in &mut config.listeners {
        let of_routes = listener.routes.iter_mut().map(|route| &mut route.policy);
        for policy in of_routes.chain([&mut listener.policy]).flatten() {
            let Some(own) = policy.jwt.as_ref().and_then(|jwt| jwt.remote()) else {
                continue;
            };
            match known.iter().find(|known| known.place() == own.place()) {
                Some(same) if Arc::ptr_eq(same, own) => {}
                Some(same) => {
                    let jwt = policy.jwt.as_ref().map(|jwt| Arc::new(jwt.sharing(same)));
                    Arc::make_mut(policy).jwt = jwt;
                }
                None => known.push(own.clone()),
            }
        }
    }
}

/// Requests that are under way stay counted.
fn carry_gate(before: Option<&Arc<Gate>>, after: &mut Option<Arc<Gate>>) {
    if let Some(before) = before.filter(|before| after.as_ref() == Some(*before)) {
        *after = Some(before.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn config(listener: &str, route: &str) -> Config {
        let text = format!(
            "apiVersion: foreshade/v1\nlisteners:\n  - name: web\n    address: 127.0.0.1:80\n    {listener}\n    routes:\n      \
             - {{ match: {{ path: {{ prefix: /a }} }}, cluster: shop, {route} }}\n\
             clusters: [{{ name: shop, endpoints: [{{ name: a, address: '127.0.0.1:9001' }}] }}]\n"
        );
        config::parse(&text, "test").unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    #[test]
    fn a_limit_that_says_the_same_goes_on_and_another_one_begins() {
        let rates = |rate: u32| format!("rateLimits: [{{ name: a, rate: {rate} }}, {{ name: b, rate: 7 }}]");
        let before = config(&rates(1), &rates(2));
        let mut after = config(&rates(1), &rates(3));
        carry_over(&before, &mut after);
        let parts = |config: &Config| {
            let listener = &config.listeners[0];
            let route = listener.routes[0].policy.as_ref().unwrap().rates.clone();
            (listener.policy.as_ref().unwrap().rates.clone(), route)
        };
        let ((old, old_route), (new, new_route)) = (parts(&before), parts(&after));
        assert!(Arc::ptr_eq(&old[0], &new[0]) && Arc::ptr_eq(&old[1], &new[1]));
        assert!(!Arc::ptr_eq(&old_route[0], &new_route[0]) && Arc::ptr_eq(&old_route[1], &new_route[1]));
    }

    #[test]
    fn keys_in_one_place_are_fetched_once_for_all_who_ask_for_them() {
        let jwt = |port: u16, audience: &str| {
            format!("jwt: {{ keysUrl: 'http://127.0.0.1:{port}/keys', issuer: a, audiences: [{audience}] }}")
        };
        for (port, issuers) in [(1, 1), (2, 2)] {
            let mut config = config(&jwt(1, "shop"), &jwt(port, "bank"));
            share_keys(Vec::new(), &mut config);
            assert_eq!(super::issuers(&config).count(), issuers, "{port}");
            let asked: Vec<_> = config.policies().map(|(_, _, policy)| &policy.jwt).collect();
            assert_ne!(asked[0], asked[1], "only the keys are shared");
        }
    }

    #[test]
    fn keys_of_an_issuer_go_on_whatever_else_is_asked_of_tokens() {
        let jwt = |port: u16, audience: &str| {
            format!("jwt: {{ keysUrl: 'http://127.0.0.1:{port}/keys', issuer: a, audiences: [{audience}] }}")
        };
        let before = config("idleTimeout: 60s", &jwt(1, "shop"));
        let remote = |config: &Config| {
            let policy = config.listeners[0].routes[0].policy.as_ref().unwrap();
            policy.jwt.as_ref().unwrap().remote().unwrap().clone()
        };
        for (port, is_same) in [(1, true), (2, false)] {
            let mut after = config("idleTimeout: 60s", &jwt(port, "bank"));
            carry_over(&before, &mut after);
            assert_eq!(Arc::ptr_eq(&remote(&before), &remote(&after)), is_same, "{port}");
        }
    }
}
