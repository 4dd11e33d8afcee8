//! What the process takes of the machine, as the usual names have it.
//!
//! Linux says it in `/proc`; elsewhere there is only the start.

use std::sync::LazyLock;

use multicredit_domain::Timestamp;
use multicredit_store::clock;

use super::text::{Kind, Page};

/// What `/proc/self/stat` counts processor time in: the same on every architecture that Rust's Linux targets have.
const TICKS_PER_SECOND: f64 = 100.0;

static STARTED_AT: LazyLock<Timestamp> = LazyLock::new(clock::now);

/// Remembers now as the start of the process, unless it is remembered already.
pub fn remember_start() {
    LazyLock::force(&STARTED_AT);
}

/// Writes the families.
pub fn write(page: &mut Page) {
    let started_at = STARTED_AT.timestamp();
    page.single(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started, in seconds since 1970; time() minus it is the uptime.",
        started_at,
    );
    if let Some(seconds) = cpu_seconds() {
        page.single("process_cpu_seconds_total", Kind::Counter, "Processor time in user and system mode.", seconds);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (field, name, help) in [
        ("VmRSS:", "process_resident_memory_bytes", "Memory in use."),
        ("VmSize:", "process_virtual_memory_bytes", "Address space in use."),
    ] {
        if let Some(kilobytes) = field_of(&status, field) {
            page.single(name, Kind::Gauge, help, kilobytes * 1024);
        }
    }
    if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
        page.single("process_open_fds", Kind::Gauge, "Open file descriptors.", descriptors.count());
    }
}

fn cpu_seconds() -> Option<f64> {
    ticks(&std::fs::read_to_string("/proc/self/stat").ok()?).map(|ticks| ticks / TICKS_PER_SECOND)
}

/// User and system time of a line of `/proc/PID/stat`. The program's name, which may hold anything, ends with the last
/// parenthesis; the times are the 12th and 13th field after it.
fn ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    Some(times.next()?.parse::<f64>().ok()? + times.next()?.parse::<f64>().ok()?)
}

fn field_of(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_whatever_the_program_is_called() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 25 17 0 0 20 0 1 0 100 0 0";
        assert_eq!(ticks(stat), Some(42.0));
        assert_eq!(ticks("nonsense"), None);
    }

    #[test]
    fn memory_is_read_in_kilobytes() {
        assert_eq!(field_of("Name:\tx\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048));
        assert_eq!(field_of("Name:\tx\n", "VmRSS:"), None);
    }
}
