//! Who serves and who stands by, as the plan has it: laid over the configuration, which stays as it is.
//!
//! The configuration names a pair's primary and its shadow; a promotion swaps what they are for, and neither of them
//! with it: both keep their place in the lists and so, by `topology::ids`, everything that was learnt of them,
//! connections and counters. The file cannot say that, because whoever wrote it does not know what has been promoted
//! since. So roles are applied to whatever configuration is read, at the start and at each reload.
//!
//! The place in balancing belongs to the pair: the weight goes with the role, or else a promotion of the shadow of a
//! large primary would send its users to all the others.

use std::collections::{BTreeMap, HashMap};

use foreshade_contract::{Arm, Name, PairId, PairPlan, Plan};
use foreshade_engine::spec::Role;

use crate::config::{Cluster, Config};

/// By pair, its shadow and who of the two serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(BTreeMap<PairId, (Name, Arm)>);

/// Where the two of a pair are: in a cluster, by endpoint index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seats {
    /// Index of the cluster.
    pub cluster: usize,
    /// By arm, index of the endpoint in it.
    pub arms: [usize; 2],
    /// Which arm is the primary.
    pub serving: Arm,
}

impl Seats {
    /// Where the one is that serves.
    pub fn primary(&self) -> usize {
        self.of(self.serving)
    }

    /// Where an arm is.
    pub fn of(&self, arm: Arm) -> usize {
        let [primary, shadow] = self.arms;
        match arm {
            Arm::Primary => primary,
            Arm::Shadow => shadow,
        }
    }
}

impl Roles {
    /// Those of a plan.
    pub fn of(plan: &Plan) -> Self {
        let pairs = plan.pairs().iter();
        Self(
            pairs
                .map(|pair| (pair.pair.clone(), (pair.shadow.clone(), pair.serving)))
                .collect(),
        )
    }

    /// The configuration with these roles. What a pair needs and the configuration does not have leaves that pair as the
    /// configuration has it: [`seats`] says so.
    pub fn applied(&self, mut config: Config) -> Config {
        let places = places(&config);
        for (pair, (shadow, serving)) in &self.0 {
            let place = places.get(&pair.cluster);
            if let Some(cluster) = place.and_then(|index| config.clusters.get_mut(*index)) {
                assign(cluster, &pair.primary, shadow, *serving);
            }
        }
        config
    }
}

/// Where each cluster is.
pub fn places(config: &Config) -> HashMap<Name, usize> {
    let clusters = config.clusters.iter().enumerate();
    clusters
        .map(|(index, cluster)| (cluster.name.clone(), index))
        .collect()
}

fn assign(cluster: &mut Cluster, primary: &Name, shadow: &Name, serving: Arm) {
    let place = |name: &Name| cluster.endpoints.iter().position(|e| e.name == *name);
    let (Some(p), Some(s)) = (place(primary), place(shadow)) else {
        return;
    };
    let Ok([one, other]) = cluster.endpoints.get_disjoint_mut([p, s]) else {
        return;
    };
    // A primary may be a shadow, too, but then it has none, and nobody else's place in balancing.
    let is_free = match other.role {
        Role::Shadow => true,
        Role::Primary { shadow } => shadow.is_none() && serving == Arm::Primary,
    };
    if !matches!(one.role, Role::Primary { .. }) || !is_free {
        return;
    }
    match serving {
        Arm::Primary => one.role = Role::Primary { shadow: Some(s) },
        Arm::Shadow => {
            one.role = Role::Shadow;
            other.role = Role::Primary { shadow: Some(p) };
            std::mem::swap(&mut one.weight, &mut other.weight);
        }
    }
}

/// Where the two of a pair are in the configuration that runs, if they are what the plan wants them to be. `places` are
/// those of its clusters.
///
/// # Errors
/// Why they are not.
pub fn seats(config: &Config, places: &HashMap<Name, usize>, plan: &PairPlan) -> Result<Seats, &'static str> {
    let cluster = places.get(&plan.pair.cluster).copied();
    let cluster = cluster.ok_or("there is no such cluster")?;
    let endpoints = config
        .clusters
        .get(cluster)
        .map(|c| &c.endpoints[..])
        .unwrap_or_default();
    let place = |name: &Name| endpoints.iter().position(|e| e.name == *name);
    let primary = place(&plan.pair.primary).ok_or("the cluster has no endpoint of the primary's name")?;
    let shadow = place(&plan.shadow).ok_or("the cluster has no endpoint of the shadow's name")?;
    let seats = Seats {
        cluster,
        arms: [primary, shadow],
        serving: plan.serving,
    };
    let (serves, stands_by) = (seats.of(plan.serving), seats.of(plan.serving.other()));
    let role = |index: usize| endpoints.get(index).map(|e| e.role);
    if role(serves)
        != Some(Role::Primary {
            shadow: Some(stands_by),
        })
    {
        return Err("the two are not each other's primary and shadow here");
    }
    Ok(seats)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{id, pair, plan};
    use super::*;
    use crate::config;

    fn config() -> Config {
        let text = "apiVersion: foreshade/v1\nlisteners: [{ name: web, address: 127.0.0.1:80, routes: [{ cluster: shop }] }]\n\
            clusters:\n  - name: shop\n    endpoints:\n      \
            - { name: a, address: 127.0.0.1:9001, shadow: a-standby, weight: 5 }\n      \
            - { name: b, address: 127.0.0.1:9002, shadow: a-standby }\n      \
            - { name: c, address: 127.0.0.1:9003 }\n    shadows:\n      \
            - { name: a-standby, address: 127.0.0.1:9101 }\n";
        config::parse(text, "test").unwrap()
    }

    fn roles(config: &Config) -> Vec<Role> {
        config.clusters[0].endpoints.iter().map(|e| e.role).collect()
    }

    fn promoted() -> PairPlan {
        PairPlan {
            serving: Arm::Shadow,
            ..pair("a")
        }
    }

    fn seats(config: &Config, plan: &PairPlan) -> Result<Seats, &'static str> {
        super::seats(config, &places(config), plan)
    }

    const fn primary(shadow: usize) -> Role {
        Role::Primary { shadow: Some(shadow) }
    }

    #[test]
    fn a_promotion_swaps_roles_and_weights_and_moves_nobody() {
        let before = config();
        let after = Roles::of(&plan(id(1, 1), vec![promoted()])).applied(before.clone());
        assert_eq!(
            roles(&after),
            [
                Role::Shadow,
                primary(3),
                Role::Primary { shadow: None },
                primary(0)
            ]
        );
        let weight = |config: &Config, index: usize| config.clusters[0].endpoints[index].weight;
        assert!((weight(&after, 3) - 5.0).abs() < 1e-9 && (weight(&after, 0) - 1.0).abs() < 1e-9);
        let who = |config: &Config| {
            let endpoints = config.clusters[0].endpoints.iter();
            endpoints.map(|e| (e.name.clone(), e.address)).collect::<Vec<_>>()
        };
        assert_eq!(who(&before), who(&after));
        let found = seats(&after, &promoted()).unwrap();
        assert_eq!((found.arms, found.primary()), ([0, 3], 3));
        // Not swapped yet, or not any more.
        assert!(seats(&before, &promoted()).is_err());
        assert!(seats(&before, &pair("a")).is_ok());
        assert!(seats(&after, &pair("a")).is_err());
    }

    #[test]
    fn another_shadow_can_be_chosen_than_the_files() {
        let other = PairPlan {
            shadow: "c".parse().unwrap(),
            ..pair("a")
        };
        let after = Roles::of(&plan(id(1, 1), vec![other.clone()])).applied(config());
        assert_eq!(roles(&after)[0], primary(2));
        assert!(seats(&after, &other).is_ok());
    }

    #[test]
    fn what_the_configuration_cannot_do_is_left_as_it_is_and_told() {
        let shadow = |name: &str, serving| PairPlan {
            shadow: name.parse().unwrap(),
            serving,
            ..pair("a")
        };
        let elsewhere = PairPlan {
            pair: PairId {
                cluster: "api".parse().unwrap(),
                ..pair("a").pair
            },
            ..pair("a")
        };
        for wrong in [
            elsewhere,
            pair("x"),
            shadow("x", Arm::Primary),
            // It has a shadow of its own: one failure would travel.
            shadow("b", Arm::Primary),
            // It has a place in balancing already.
            shadow("c", Arm::Shadow),
        ] {
            let after = Roles::of(&plan(id(1, 1), vec![wrong.clone()])).applied(config());
            assert_eq!(roles(&after), roles(&config()));
            assert!(seats(&after, &wrong).is_err(), "{wrong:?}");
        }
        // Two pairs share a shadow: it can take the place of one of them.
        let both = vec![
            promoted(),
            PairPlan {
                shadow: "a-standby".parse().unwrap(),
                serving: Arm::Shadow,
                ..pair("b")
            },
        ];
        let after = Roles::of(&plan(id(1, 1), both.clone())).applied(config());
        assert!(seats(&after, &both[0]).is_ok() && seats(&after, &both[1]).is_err());
    }
}
