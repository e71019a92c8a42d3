//! Plans and a folder of their own, for the tests of what keeps and follows them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use foreshade_contract::{Arm, Epoch, Generation, PairId, PairPlan, Plan, PlanId, Round, Share};

pub(crate) fn id(epoch: u64, generation: u64) -> PlanId {
    PlanId {
        epoch: Epoch(epoch),
        generation: Generation(generation),
    }
}

/// `shop/<primary>` with the shadow `<primary>-standby`, without any limit.
pub(crate) fn pair(primary: &str) -> PairPlan {
    PairPlan {
        pair: PairId {
            cluster: "shop".parse().unwrap(),
            primary: primary.parse().unwrap(),
        },
        shadow: format!("{primary}-standby").parse().unwrap(),
        round: Round(1),
        serving: Arm::Primary,
        ceiling: Share::ONE,
        directed: None,
        frozen: false,
        failover: true,
        thresholds: None,
    }
}

pub(crate) fn plan(id: PlanId, pairs: Vec<PairPlan>) -> Plan {
    Plan::new(id, None, pairs).unwrap()
}

/// A folder below the system's temporary one, removed when dropped.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
}

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("foreshade-plan-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path.join("plan")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
