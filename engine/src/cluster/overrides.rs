//! What an operator has set by hand: a share or a risk, with a reason, until a moment that has to be named.
//!
//! An override that nobody remembers is the outage of next month, so none lasts for ever. A share is taken as it is: the
//! operator may know more than every cap. A risk is a floor under what the evidence says; it commits, unlike hearsay, and
//! no request can disprove it while it lasts.

use std::time::Duration;

use foreshade_contract::{Risk, Share};
use serde::{Deserialize, Serialize};

use crate::assessment::{Assessment, Group, Term};
use crate::lineage::Lineage;
use crate::moment::Moment;
use crate::spec::{ClusterSpec, EndpointSpec, Role};

/// The longest time for which an override may hold.
pub const OVERRIDE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The longest reason that is kept, in bytes.
const REASON_BYTES_MAX: usize = 256;

/// The component of risk that an operator's word makes.
pub(crate) const OPERATOR: &str = "operator";

/// What an operator sets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// The share of the primary's traffic that its shadow serves.
    Share(Share),
    /// The least risk of the endpoint.
    Risk(Risk),
}

/// An operator's word on one endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Override {
    /// Index of the endpoint.
    pub endpoint: usize,
    /// What is set.
    pub setting: Setting,
    /// Why; not empty, at most 256 bytes.
    pub reason: String,
    /// When it ends; in the future, at most [`OVERRIDE_MAX`] from now.
    pub expires: Moment,
}

/// Why an override is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// There is no such endpoint.
    #[error("the cluster has no endpoint {0}")]
    UnknownEndpoint(usize),
    /// A share needs a primary with a shadow.
    #[error("endpoint {0} has no shadow that a share could move to")]
    NoShadow(usize),
    /// No reason was given, or it is too long.
    #[error("an override needs a reason of 1 to 256 bytes")]
    Reason,
    /// It would have ended already.
    #[error("the override expires in the past")]
    Expired,
    /// It would last too long.
    #[error("an override lasts at most 24 hours")]
    TooLong,
}

/// The overrides of one cluster, one per endpoint.
#[derive(Debug)]
pub(super) struct Overrides(Vec<Option<Override>>);

impl Overrides {
    pub(super) fn new(endpoints: usize) -> Self {
        Self(vec![None; endpoints])
    }

    pub(super) fn set(
        &mut self,
        order: Override,
        endpoint: Option<&EndpointSpec>,
        now: Moment,
    ) -> Result<(), OverrideError> {
        let unknown = OverrideError::UnknownEndpoint(order.endpoint);
        let role = endpoint.ok_or(unknown)?.role;
        if matches!(order.setting, Setting::Share(_)) && !matches!(role, Role::Primary { shadow: Some(_) }) {
            return Err(OverrideError::NoShadow(order.endpoint));
        }
        if order.reason.trim().is_empty() || order.reason.len() > REASON_BYTES_MAX {
            return Err(OverrideError::Reason);
        }
        if order.expires <= now {
            return Err(OverrideError::Expired);
        }
        if order.expires.since(now) > OVERRIDE_MAX {
            return Err(OverrideError::TooLong);
        }
        let slot = self.0.get_mut(order.endpoint).ok_or(unknown)?;
        *slot = Some(order);
        Ok(())
    }

    /// Goes on with another set of endpoints. Gives back the words that cannot be carried out any more: their endpoint
    /// is gone, or the shadow that a share was to move to.
    pub(super) fn reshape(&mut self, spec: &ClusterSpec, lineage: &Lineage) -> Vec<Override> {
        let mut dropped = Vec::new();
        let mut slots = vec![None; spec.endpoints.len()];
        for order in std::mem::take(&mut self.0).into_iter().flatten() {
            let after = lineage.after(order.endpoint);
            let endpoint = after.and_then(|index| spec.endpoints.get(index));
            let needs_shadow = matches!(order.setting, Setting::Share(_));
            let has_shadow = endpoint.is_some_and(|e| matches!(e.role, Role::Primary { shadow: Some(_) }));
            match after.and_then(|index| Some((index, slots.get_mut(index)?))) {
                Some((endpoint, slot)) if has_shadow || !needs_shadow => {
                    *slot = Some(Override { endpoint, ..order });
                }
                _ => dropped.push(order),
            }
        }
        self.0 = slots;
        dropped
    }

    pub(super) fn clear(&mut self, endpoint: usize) -> bool {
        self.0.get_mut(endpoint).and_then(Option::take).is_some()
    }

    pub(super) fn active(&self, now: Moment) -> impl Iterator<Item = &Override> {
        self.0.iter().flatten().filter(move |order| now < order.expires)
    }

    /// The share that is set for a primary.
    pub(super) fn share_of(&self, endpoint: usize, now: Moment) -> Option<Share> {
        self.active(now).find_map(|order| match order.setting {
            Setting::Share(share) if order.endpoint == endpoint => Some(share),
            Setting::Share(_) | Setting::Risk(_) => None,
        })
    }

    /// Raises the risks that are set, and forgets what has expired.
    pub(super) fn apply(&mut self, endpoints: &mut [Assessment], now: Moment) {
        for (slot, seen) in self.0.iter_mut().zip(endpoints) {
            if slot.as_ref().is_some_and(|order| now >= order.expires) {
                *slot = None;
            }
            if let Some(Override {
                setting: Setting::Risk(least),
                ..
            }) = slot
                && *least > seen.risk
            {
                seen.risk = *least;
                // It is said now, not remembered.
                seen.raw = *least;
                seen.terms.insert(0, term(*least));
            }
        }
    }
}

fn term(risk: Risk) -> Term {
    Term {
        group: Group::External,
        component: OPERATOR,
        effect: risk.value(),
        evidence: 1.0,
        hazard: -(1.0 - risk.value()).max(1e-6).ln(),
        observed: risk.value(),
        baseline: 0.0,
        samples: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(setting: Setting) -> Override {
        Override {
            endpoint: 0,
            setting,
            reason: "kernel update".to_owned(),
            expires: Moment::from_micros(60_000_000),
        }
    }

    fn primary(shadow: Option<usize>) -> EndpointSpec {
        EndpointSpec {
            name: "a".parse().unwrap(),
            role: Role::Primary { shadow },
            weight: 1.0,
            capacity_rps: None,
            region: None,
        }
    }

    #[test]
    fn an_override_needs_a_place_a_reason_and_an_end() {
        let mut overrides = Overrides::new(1);
        let good = order(Setting::Share(Share::ONE));
        let pair = primary(Some(1));
        let mut refused = |order: Override, endpoint: Option<&EndpointSpec>, now: u64| {
            overrides.set(order, endpoint, Moment::from_micros(now)).err()
        };
        assert_eq!(
            refused(good.clone(), None, 0),
            Some(OverrideError::UnknownEndpoint(0))
        );
        assert_eq!(
            refused(good.clone(), Some(&primary(None)), 0),
            Some(OverrideError::NoShadow(0))
        );
        let silent = Override {
            reason: " ".to_owned(),
            ..order(Setting::Share(Share::ONE))
        };
        assert_eq!(refused(silent, Some(&pair), 0), Some(OverrideError::Reason));
        assert_eq!(
            refused(good.clone(), Some(&pair), 60_000_000),
            Some(OverrideError::Expired)
        );
        let endless = Override {
            expires: Moment::from_micros(u64::MAX),
            ..order(Setting::Share(Share::ONE))
        };
        assert_eq!(refused(endless, Some(&pair), 0), Some(OverrideError::TooLong));
        assert_eq!(refused(good, Some(&pair), 0), None);
    }

    // Invariant 16.
    #[test]
    fn an_override_ends_by_itself() {
        let mut overrides = Overrides::new(1);
        let pair = primary(Some(1));
        overrides
            .set(order(Setting::Risk(Risk::ONE)), Some(&pair), Moment::ZERO)
            .unwrap();
        let mut seen = [Assessment::unknown()];
        overrides.apply(&mut seen, Moment::from_micros(59_999_999));
        assert_eq!(seen[0].risk, Risk::ONE);
        let mut seen = [Assessment::unknown()];
        overrides.apply(&mut seen, Moment::from_micros(60_000_000));
        assert_eq!(seen[0].risk, Risk::ZERO);
        assert!(!overrides.clear(0));
    }
}
