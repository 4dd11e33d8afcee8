//! Runs a command with throwaway servers: `with-servers [--durable] COMMAND [ARGUMENT...]`.
//!
//! A test runner that makes a process of every test would otherwise start a server for every test. This program starts
//! them once, names them to the command in environment variables, and ends with the command's exit status. With
//! `--durable` files are on a disk and PostgreSQL syncs to it at every commit, for benchmarks and tests of crashes.
//!
//! The servers end before it does: when the command has ended, or after it was told to by Ctrl-C, SIGTERM or SIGHUP. If
//! it is killed they end right after it, as `guardian.rs` explains.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::{Context, bail};
use tests::postgres;
use tests::redis::{self, Redis};
use tests::scratch::{self, Scratch};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long the command may take to end after this program was told to: longer than `cargo nextest` gives its tests.
const GRACE: Duration = Duration::from_secs(15);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let durable = arguments.next_if(|argument| argument == "--durable").is_some();
    let Some(program) = arguments.next() else {
        bail!("usage: with-servers [--durable] COMMAND [ARGUMENT...]");
    };
    // First of all, so that a signal that comes while the servers start is not lost.
    let mut requests = EndRequests::listen()?;

    let scratch = Scratch::start(durable)?;
    let postgres = postgres::start(durable)?;
    let redis = if Redis::is_installed() { Some(Redis::start()?) } else { None };

    let mut command = Command::new(&program);
    command
        .args(arguments)
        .env(scratch::DIRECTORY_VARIABLE, scratch.path())
        .env(postgres::URL_VARIABLE, postgres.url());
    match &redis {
        Some(redis) => {
            command.env(redis::URL_VARIABLE, redis.url());
        }
        None => eprintln!("redis-server is not installed: tests that need it will fail"),
    }
    let mut child = command.spawn().with_context(|| format!("{} does not start", program.display()))?;

    let status = tokio::select! {
        status = child.wait() => status?,
        request = requests.next() => end(child, request).await?,
    };
    Ok(exit_code(status))
}

/// The signals that ask this program to end.
struct EndRequests {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

#[derive(PartialEq)]
enum EndRequest {
    /// Ctrl-C, which the terminal sends to the command as well.
    Interrupt,
    /// A signal to this program alone.
    Terminate,
}

impl EndRequests {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> EndRequest {
        tokio::select! {
            _ = self.interrupt.recv() => EndRequest::Interrupt,
            _ = self.hangup.recv() => EndRequest::Terminate,
            _ = self.terminate.recv() => EndRequest::Terminate,
        }
    }
}

/// Lets the command end by itself, and kills it when it does not.
async fn end(mut child: Child, request: EndRequest) -> anyhow::Result<ExitStatus> {
    // A test runner takes a second Ctrl-C for impatience and kills its tests, so that one is not passed on.
    if request == EndRequest::Terminate
        && let Some(id) = child.id()
    {
        Command::new("kill").args(["-TERM", &id.to_string()]).status().await?;
    }
    if let Ok(status) = tokio::time::timeout(GRACE, child.wait()).await {
        return Ok(status?);
    }
    child.kill().await?;
    Ok(child.wait().await?)
}

/// The status as a shell gives it: 128 and the signal's number for a command that a signal ended.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
