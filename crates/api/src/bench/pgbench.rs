//! Procedures in the database, called by PostgreSQL's own load generator, which is written in C and costs little.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::Command;

use super::load::Tally;
use crate::throwaway::Guardian;

/// Threads of `pgbench`: there is nothing to gain from more.
const THREADS_MAX: usize = 2;

/// `pgbench` against one database.
pub struct Pgbench {
    /// The program.
    program: PathBuf,
    /// A directory for scripts and logs, in memory: logs on the disk would be in the way of commits.
    scratch: Guardian,
}

/// What to call, and how long.
pub struct Calls<'a> {
    /// The database.
    pub url: &'a str,
    /// The script of a transaction.
    pub script: &'a str,
    /// From how many connections.
    pub connections: usize,
    /// How long before measuring.
    pub warm_up: Duration,
    /// How long to measure.
    pub measured: Duration,
}

impl Pgbench {
    /// The one in the folder of the server's programs, or on the `PATH`.
    pub fn find(bin_directory: Option<&Path>) -> anyhow::Result<Self> {
        let beside = bin_directory.map(|folder| folder.join("pgbench")).filter(|program| program.is_file());
        Ok(Self {
            program: beside.unwrap_or_else(|| PathBuf::from("pgbench")),
            scratch: Guardian::directory_only(false)?,
        })
    }

    /// Calls as prepared statements, each a transaction of its own.
    pub async fn run(&self, calls: &Calls<'_>) -> anyhow::Result<Tally> {
        let folder = self.scratch.directory().join(multicredit_store::clock::new_uuid().to_string());
        std::fs::create_dir(&folder)?;
        let script = folder.join("script.sql");
        std::fs::write(&script, calls.script)?;
        let logs = folder.join("logs");
        std::fs::create_dir(&logs)?;
        // Whole seconds are all that it takes.
        let seconds = (calls.warm_up + calls.measured).as_secs_f64().ceil();
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        command
            .args(["--no-vacuum", "--protocol=prepared", "--log"])
            .arg(format!("--client={}", calls.connections))
            .arg(format!("--jobs={}", calls.connections.min(THREADS_MAX)))
            .arg(format!("--time={seconds}"))
            .arg(format!("--log-prefix={}", logs.join("log").display()))
            .arg(format!("--file={}", script.display()))
            .arg(calls.url)
            .kill_on_drop(true);
        let output = command.output().await.with_context(|| format!("cannot run {}", self.program.display()))?;
        if !output.status.success() {
            bail!("pgbench failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let mut text = String::new();
        for entry in std::fs::read_dir(&logs)? {
            text.push_str(&std::fs::read_to_string(entry?.path())?);
        }
        std::fs::remove_dir_all(folder)?;
        let transactions = text.lines().map(Transaction::parse).collect::<Option<Vec<_>>>();
        Ok(tally(&transactions.context("pgbench's log cannot be read")?, calls))
    }
}

/// A line of the log, in microseconds.
struct Transaction {
    latency: u64,
    ended_at: u64,
}

impl Transaction {
    /// `client_id transaction_no time script_no time_epoch time_us`
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ').skip(2);
        let latency = fields.next()?.parse().ok()?;
        let seconds: u64 = fields.nth(1)?.parse().ok()?;
        let micros: u64 = fields.next()?.parse().ok()?;
        Some(Self { latency, ended_at: seconds * 1_000_000 + micros })
    }
}

fn tally(transactions: &[Transaction], calls: &Calls<'_>) -> Tally {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let start = transactions.iter().map(|it| it.ended_at.saturating_sub(it.latency)).min().unwrap_or(0);
    let from = start + micros(calls.warm_up);
    let until = from + micros(calls.measured);
    let mut tally = Tally { acknowledged: transactions.len() as u64, ..Tally::default() };
    for transaction in transactions.iter().filter(|it| (from..until).contains(&it.ended_at)) {
        tally.done += 1;
        tally.latencies.record(Duration::from_micros(transaction.latency));
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_read_and_what_is_outside_of_the_measured_time_left_out() {
        let log = "0 199 2241 0 100 500000\n1 1 1000 0 101 600000\n0 200 3000 0 102 0\n0 201 1 0 109 0";
        let transactions: Vec<_> = log.lines().map(|line| Transaction::parse(line).unwrap()).collect();
        let calls = Calls {
            url: "",
            script: "",
            connections: 2,
            warm_up: Duration::from_secs(1),
            measured: Duration::from_secs(2),
        };
        let tally = tally(&transactions, &calls);
        assert_eq!((tally.acknowledged, tally.done), (4, 2));
        assert!(tally.latencies.percentile(1_000) >= Duration::from_millis(3));
        assert!(Transaction::parse("0 1 failed 0 1 1").is_none());
    }
}
