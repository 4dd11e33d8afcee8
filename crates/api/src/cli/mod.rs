//! The command line: one module a command, and what they share.
//!
//! Standard output belongs to a command's result, so that it can be piped; logs, progress and errors go to standard
//! error. An error is one line that says what was tried and why it failed, and makes the exit code 1.

mod admin_key;
mod bench;
mod database;
mod demo;
mod import;
mod keys;
mod logging;
mod maintain;
mod openapi;
mod opening;
mod output;
mod report;
mod serve;
mod verify;

#[cfg(any(test, fuzzing))]
pub use self::import::fuzz_csv;

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::runtime;

use crate::config::{Cli, Command, KeysCommand};
use crate::metrics;

/// How a command ended, if no error ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// As it should.
    Success,
    /// It did its work and found something that must not be.
    Violation,
    /// It did its work, except for what was invalid.
    InvalidInput,
}

impl Outcome {
    /// What the shell sees. 1 is also what an error becomes, and 2 is a wrong command line, which clap reports itself.
    const fn exit_code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Violation => 1,
            Self::InvalidInput => 3,
        }
    }
}

/// Runs the program: reads the command line and the environment, does what they say, and answers the exit code.
pub fn main() -> ExitCode {
    metrics::remember_start();
    let command = Cli::parse().into_command();
    match run(command) {
        Ok(outcome) => outcome.exit_code().into(),
        // Whoever read our output has seen enough (`multicredit openapi | head`): nothing to tell anybody about, but
        // no success either.
        Err(error) if is_broken_pipe(&error) => ExitCode::FAILURE,
        Err(error) => {
            output::complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<Outcome> {
    let runtime =
        runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the asynchronous runtime")?;
    let exporter = logging::start(command.log(), runtime.handle())?;
    let outcome = runtime.block_on(dispatch(command));
    if let Some(exporter) = exporter {
        exporter.finish();
    }
    // Dropping it would wait for threads that a blocked system call holds; whatever mattered has been awaited.
    runtime.shutdown_background();
    outcome
}

async fn dispatch(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Serve(args) => serve::run(args).await,
        Command::Import(args) => import::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Maintain(args) => maintain::run(args).await,
        Command::Report(args) => report::run(args).await,
        Command::Keys(args) => match args.command {
            KeysCommand::Create(args) => keys::create(args).await,
            KeysCommand::List(args) => keys::list(args).await,
            KeysCommand::Revoke(args) => keys::revoke(args).await,
        },
        Command::Bench(args) => bench::run(args).await,
        Command::Openapi(_) => openapi::run(),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_an_exit_code_that_no_usage_error_has() {
        let codes = [Outcome::Success, Outcome::Violation, Outcome::InvalidInput].map(Outcome::exit_code);
        assert_eq!(codes, [0, 1, 3]);
        let usage = Cli::try_parse_from(["multicredit", "--no-such-flag"]).unwrap_err();
        assert!(!codes.contains(&u8::try_from(usage.exit_code()).unwrap()));
    }

    #[test]
    fn only_a_closed_pipe_goes_unmentioned() {
        assert!(is_broken_pipe(&io::Error::from(io::ErrorKind::BrokenPipe).into()));
        assert!(!is_broken_pipe(&io::Error::from(io::ErrorKind::StorageFull).into()));
    }
}
