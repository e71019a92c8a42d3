//! A process and all that it has started, and what they use together: some contenders serve in workers of their own, and
//! a figure of the first process alone would call them free.
//!
//! Read from `/proc`, for any program. Times are those that the kernel charges; memory is resident memory with pages that
//! several share counted once for each, which cancels out where two readings are subtracted.

use std::io;

/// Clock ticks per second in `/proc/PID/stat`: fixed by the kernel's interface to user space on every architecture that
/// matters here, whatever the kernel's own tick.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time so far, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuTime {
    /// In the program.
    pub user_s: f64,
    /// In the kernel on its behalf.
    pub system_s: f64,
}

impl CpuTime {
    /// Both.
    pub fn total_s(&self) -> f64 {
        self.user_s + self.system_s
    }

    /// What was spent after `before`.
    pub fn since(&self, before: Self) -> Self {
        Self {
            user_s: self.user_s - before.user_s,
            system_s: self.system_s - before.system_s,
        }
    }
}

/// What `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    parent: u32,
    cpu: CpuTime,
}

/// The process `root`, first, and everybody who descends from it.
///
/// # Errors
/// When `/proc` cannot be listed. Processes that end meanwhile are left out.
pub fn members(root: u32) -> io::Result<Vec<u32>> {
    let ids =
        std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let living: Vec<_> = ids.filter_map(|id| Some((id, stat(id).ok()?.parent))).collect();
    let mut found = vec![root];
    let mut next = 0;
    // Each turn looks for the children of one member; nobody is found twice, so it ends.
    while let Some(parent) = found.get(next).copied() {
        found.extend(living.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
        next += 1;
    }
    Ok(found)
}

/// CPU time of all these processes.
///
/// # Errors
/// When one of them has ended: without it the sum would be wrong.
pub fn cpu_time(processes: &[u32]) -> io::Result<CpuTime> {
    processes.iter().try_fold(CpuTime::default(), |sum, id| {
        let cpu = stat(*id)?.cpu;
        Ok(CpuTime {
            user_s: sum.user_s + cpu.user_s,
            system_s: sum.system_s + cpu.system_s,
        })
    })
}

/// Resident memory of all these processes in bytes.
///
/// # Errors
/// When one of them has ended.
pub fn resident_bytes(processes: &[u32]) -> io::Result<u64> {
    processes.iter().try_fold(0, |sum, id| {
        // Exact, where `statm` may lag behind by some dozens of pages per thread.
        let text = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
        let kib = parse_rss(&text).ok_or_else(|| io::Error::other("no Rss in /proc/PID/smaps_rollup"))?;
        Ok(sum + kib * 1024)
    })
}

fn stat(process: u32) -> io::Result<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::Error::other("unexpected format of /proc/PID/stat"))
}

/// Fields 4, 14 and 15 of proc_pid_stat(5). The second field, the name, may hold anything, so counting starts behind it.
fn parse_stat(text: &str) -> Option<Stat> {
    let behind_name = text.rsplit_once(')')?.1;
    let mut fields = behind_name.split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let mut fields = fields.skip(9);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(Stat {
        parent,
        cpu: CpuTime {
            user_s: seconds()?,
            system_s: seconds()?,
        },
    })
}

fn parse_rss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_with_blanks_and_brackets_does_not_move_the_fields() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194304 1 0 0 0 250 125 0 0 20 0 3 0 1 1 1";
        let cpu = CpuTime {
            user_s: 2.5,
            system_s: 1.25,
        };
        assert_eq!(parse_stat(text), Some(Stat { parent: 1, cpu }));
    }

    #[test]
    fn the_own_process_can_be_read() {
        let own = [std::process::id()];
        assert!(cpu_time(&own).is_ok());
        // A test runner takes more than a page and less than a machine.
        let bytes = resident_bytes(&own).unwrap();
        assert!((4_096..1 << 40).contains(&bytes), "{bytes}");
        assert_eq!(parse_rss("Pss: 3 kB\nRss:      12 kB\n"), Some(12));
    }

    #[test]
    fn children_and_theirs_belong_to_a_family_and_others_do_not() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 1000 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first_line = String::new();
        let output = shell.stdout.as_mut().unwrap();
        io::BufRead::read_line(&mut io::BufReader::new(output), &mut first_line).unwrap();
        let grandchild: u32 = first_line.trim().parse().unwrap();
        assert_eq!(members(shell.id()).unwrap(), [shell.id(), grandchild]);
        let ours = members(std::process::id()).unwrap();
        assert!(ours.contains(&shell.id()) && ours.contains(&grandchild));
        let end = |id: u32| Command::new("kill").arg(id.to_string()).status().unwrap();
        assert!(end(grandchild).success());
        shell.wait().unwrap();
        assert!(
            cpu_time(&[shell.id()]).is_err(),
            "who has ended cannot be summed up"
        );
    }
}
