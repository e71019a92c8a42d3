//! What the process uses, as the kernel counts it, under the names that every Prometheus client gives these numbers.

use std::fs;

use super::page::{Kind, Page};

/// Clock ticks per second in `/proc`. `USER_HZ` is 100 on every architecture that Linux and Rust share but Alpha and IA-64;
/// asking the C library for it would cost a dependency.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resources of this process. What the kernel does not tell is unknown, and has no sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    start_time_s: Option<f64>,
    cpu_s: Option<f64>,
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
    threads: Option<f64>,
}

impl Process {
    /// Reads `/proc`. A few small files, well under a millisecond.
    pub fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let parsed = Self::parse(
            &text("/proc/self/stat"),
            &text("/proc/self/status"),
            &text("/proc/self/limits"),
            &text("/proc/stat"),
        );
        // One of them is the folder itself, opened to be counted.
        let open = fs::read_dir("/proc/self/fd").map(|fds| fds.count().saturating_sub(1));
        Self {
            open_fds: open.ok().map(|n| n as f64),
            ..parsed
        }
    }

    /// Source of the formats: proc(5).
    fn parse(stat: &str, status: &str, limits: &str, system: &str) -> Self {
        // The second field is the program's name in parentheses, and may hold spaces and parentheses itself. What
        // follows the last one starts with the third field.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let ticks = |number: usize| number_of(fields.get(number - 3).copied()).map(|t| t / TICKS_PER_SECOND);
        let line = |text: &'static str| {
            move |page: &str| {
                page.lines()
                    .find_map(|l| l.strip_prefix(text))
                    .and_then(|rest| number_of(rest.split_whitespace().next()))
            }
        };
        Self {
            start_time_s: line("btime ")(system)
                .zip(ticks(22))
                .map(|(boot, after)| boot + after),
            cpu_s: ticks(14).zip(ticks(15)).map(|(user, system)| user + system),
            resident_bytes: line("VmRSS:")(status).map(|kib| kib * 1024.0),
            virtual_bytes: line("VmSize:")(status).map(|kib| kib * 1024.0),
            open_fds: None,
            max_fds: line("Max open files")(limits),
            threads: line("Threads:")(status),
        }
    }

    pub(super) fn write(&self, page: &mut Page) {
        let gauges = [
            (
                "process_start_time_seconds",
                "Start of the process, seconds since 1970.",
                self.start_time_s,
            ),
            (
                "process_resident_memory_bytes",
                "Resident memory.",
                self.resident_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory.",
                self.virtual_bytes,
            ),
            ("process_open_fds", "Open file descriptors.", self.open_fds),
            (
                "process_max_fds",
                "Most file descriptors that may be open.",
                self.max_fds,
            ),
            ("process_threads", "Threads.", self.threads),
        ];
        page.family(
            "process_cpu_seconds_total",
            Kind::Counter,
            "Processor time, user and system.",
        );
        if let Some(value) = self.cpu_s {
            page.sample(&[], value);
        }
        for (name, help, value) in gauges {
            page.family(name, Kind::Gauge, help);
            if let Some(value) = value {
                page.sample(&[], value);
            }
        }
    }
}

fn number_of(text: Option<&str>) -> Option<f64> {
    text?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 3 0 1000 2000000 300 1844";
        let status = "Name:\ta\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n";
        let limits =
            "Limit      Soft Limit  Hard Limit  Units\nMax open files            1024   4096   files\n";
        let system = "cpu  1 2 3\nbtime 1700000000\n";
        let expected = Process {
            start_time_s: Some(1_700_000_010.0),
            cpu_s: Some(4.0),
            resident_bytes: Some(1_048_576.0),
            virtual_bytes: Some(2_097_152.0),
            open_fds: None,
            max_fds: Some(1024.0),
            threads: Some(3.0),
        };
        assert_eq!(Process::parse(stat, status, limits, system), expected);
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_unknown() {
        assert_eq!(Process::parse("", "", "", ""), Process::default());
        let unlimited = "Max open files   unlimited  unlimited files\n";
        assert_eq!(
            Process::parse("1 (x", "VmRSS:\n", unlimited, "btime x"),
            Process::default()
        );
    }

    #[test]
    fn this_process_is_read() {
        let process = Process::read();
        assert!(process.resident_bytes.unwrap() > 0.0);
        assert!(process.open_fds.unwrap() >= 3.0);
        assert!(process.start_time_s.unwrap() > 1.6e9);
    }
}
