//! What processes have used, as Linux counts it: where the time goes, and how large the server became.

use std::fs;
use std::time::Duration;

/// Ticks of the processor times in `/proc` a second: `USER_HZ`, which is 100 wherever Linux runs.
const TICKS_PER_SECOND: u64 = 100;

/// The fields of `/proc/PID/stat` after the command's name, counted from 0.
const PARENT: usize = 1;
const TIMES: std::ops::Range<usize> = 11..15;

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// What it has now.
    pub resident: u64,
    /// The most that it had.
    pub peak: u64,
}

/// What a process has resident; `None` where there is no such process or no `/proc`.
pub fn memory(pid: u32) -> Option<Memory> {
    parse_memory(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_memory(status: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    };
    Some(Memory { resident: bytes("VmRSS")?, peak: bytes("VmHWM")? })
}

/// The processor time of a process and of its children that have ended.
pub fn cpu(pid: u32) -> Option<Duration> {
    Some(parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?.1)
}

/// The same with its children that live, for servers that make a process of every connection.
pub fn cpu_with_children(pid: u32) -> Option<Duration> {
    let mut total = cpu(pid)?;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        // One that ends meanwhile is in its parent's figure the next time.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some((parent, used)) = parse_stat(&stat)
            && parent == pid
        {
            total += used;
        }
    }
    Some(total)
}

/// The parent, and the time of the process and its ended children.
fn parse_stat(stat: &str) -> Option<(u32, Duration)> {
    // The name stands in brackets and may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let parent = fields.get(PARENT)?.parse().ok()?;
    let ticks: u64 = fields.get(TIMES)?.iter().filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Some((parent, Duration::from_millis(ticks * (1_000 / TICKS_PER_SECOND))))
}

/// The machine's load average of the last minute.
pub fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let status = "Name:\tx\nVmPeak:\t  9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(parse_memory(status), Some(Memory { resident: 1 << 20, peak: 2 << 20 }));
        let stat = "12 (a b) c) S 7 1 1 0 -1 4194560 1 1 0 0 100 20 3 4 20 0 1 0 1 1 1";
        assert_eq!(parse_stat(stat), Some((7, Duration::from_millis(1_270))));
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn this_process_has_memory_and_an_unknown_one_none() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.resident > 0 && memory.peak >= memory.resident);
        assert_eq!(cpu(u32::MAX), None);
    }
}
