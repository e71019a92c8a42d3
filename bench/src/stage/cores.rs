//! Who runs where while CPU time is measured: what is measured on a core of its own, all else on the others.
//!
//! Left to the scheduler, a proxy sometimes shares a core with those whom it answers and sometimes does not. Waking
//! somebody on another core costs several times as much as on the own one, which moves a proxy's system time by a third
//! from one measurement to the next. Threads inherit where they may run from the thread that starts them.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The cores that this process may run on, divided.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    measured: CpuSet,
    others: CpuSet,
}

impl Cores {
    /// Keeps the first core free for what is measured; this thread, and what it starts from now on, has the others. `None`
    /// where there is only one.
    ///
    /// # Errors
    /// When the kernel does not allow it.
    pub fn divide() -> io::Result<Option<Self>> {
        let this_thread = Pid::from_raw(0);
        let all = sched_getaffinity(this_thread)?;
        let mut cores = (0..CpuSet::count()).filter(|core| all.is_set(*core).unwrap_or(false));
        let (Some(first), Some(_)) = (cores.next(), cores.next()) else {
            return Ok(None);
        };
        let (mut measured, mut others) = (CpuSet::new(), all);
        measured.set(first)?;
        others.unset(first)?;
        sched_setaffinity(this_thread, &others)?;
        Ok(Some(Self { measured, others }))
    }

    /// What `start` starts runs on the core that is kept free.
    ///
    /// # Errors
    /// When the kernel does not allow it.
    pub fn measured<T>(&self, start: impl FnOnce() -> T) -> io::Result<T> {
        let this_thread = Pid::from_raw(0);
        sched_setaffinity(this_thread, &self.measured)?;
        let started = start();
        sched_setaffinity(this_thread, &self.others)?;
        Ok(started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine() -> CpuSet {
        sched_getaffinity(Pid::from_raw(0)).unwrap()
    }

    #[test]
    fn what_is_measured_has_a_core_that_nobody_else_has() {
        // A thread of its own: where it may run goes with it.
        let checked = std::thread::spawn(|| {
            let Some(cores) = Cores::divide().unwrap() else {
                return;
            };
            let (outside, inside) = (mine(), cores.measured(mine).unwrap());
            for core in 0..CpuSet::count() {
                assert!(!(outside.is_set(core).unwrap() && inside.is_set(core).unwrap()));
            }
            assert_eq!(mine(), outside, "and back again");
        });
        checked.join().unwrap();
    }
}
