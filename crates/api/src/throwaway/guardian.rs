//! Why nothing throwaway outlives whoever started it.
//!
//! A process can end in ways that run none of its code: it is killed for taking too long, it aborts, or its things
//! stand in statics, which Rust never drops. So neither `Drop` nor a signal handler can be trusted to stop a server and
//! to remove its directory. Each such thing belongs to a *guardian* instead: a small process that makes the directory,
//! starts the server in it, and then only waits for the end of its standard input. That input is a pipe whose other end
//! is held by the owner alone (Rust opens pipes close-on-exec, so no child of the owner keeps it open). However the
//! owner ends, the kernel closes the pipe, and the guardian stops the server and removes the directory.
//!
//! The guardian is a shell script, `guardian.sh`, because it needs a process of its own without `fork`, which Rust has
//! only as unsafe code, and because test binaries have no second `main` that they could run. It stands in a process
//! group of its own, so that what ends the owner's group (Ctrl-C in a terminal, the time limit of a test runner) does
//! not take it along before it has cleaned up. It keeps none of the owner's outputs open, for which a test runner
//! would wait.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};

const SCRIPT: &str = include_str!("guardian.sh");

/// How many free ports a server is offered. Between finding a free port and listening on it another process may take
/// it; that this happens several times in a row is not to be expected.
const PORT_CANDIDATES: usize = 4;

/// Accounts that servers may run as when their owner is root, first choice first. PostgreSQL refuses to run as root.
const UNPRIVILEGED_ACCOUNTS: [&str; 2] = ["postgres", "nobody"];

/// A directory, and perhaps a server in it, that goes when this value is dropped or its process ends.
pub struct Guardian {
    process: Child,
    /// `Some` until dropped: the pipe whose end ends the guardian.
    lifeline: Option<ChildStdin>,
    directory: PathBuf,
    port: u16,
}

impl Guardian {
    /// A new, empty directory, on a disk if it must be durable.
    pub fn directory_only(durable: bool) -> anyhow::Result<Self> {
        Self::start(&mut shell("directory", durable)).context("no throwaway directory")
    }

    /// A server, which the script knows by `kind` and starts from `program`, as an account that servers accept.
    pub fn server(kind: &str, durable: bool, program: &Path) -> anyhow::Result<Self> {
        Self::server_with(kind, durable, program, None)
    }

    /// The same with an argument between the program and the ports.
    pub fn server_with(kind: &str, durable: bool, program: &Path, argument: Option<&str>) -> anyhow::Result<Self> {
        let mut command = shell(kind, durable);
        command.arg(program).args(argument).args(free_ports()?.map(|port| port.to_string()));
        if let Some((user, group)) = server_account()? {
            command.uid(user).gid(group);
        }
        Self::start(&mut command).with_context(|| format!("no throwaway {kind} server"))
    }

    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut process = command.spawn().context("the guardian's shell does not start")?;
        let lifeline = process.stdin.take();
        let stdout = process.stdout.take().context("the guardian has no output")?;
        match announced(stdout)? {
            Ok((port, directory)) => Ok(Self { process, lifeline, directory, port }),
            Err(complaint) => {
                process.wait()?;
                bail!("{complaint}")
            }
        }
    }

    /// The directory, which the guardian made and will remove.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The TCP port on 127.0.0.1 on which the server listens; 0 where there is none.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Guardian {
    /// Returns once the server has ended and the directory is gone.
    fn drop(&mut self) {
        drop(self.lifeline.take());
        if let Err(error) = self.process.wait() {
            eprintln!("nobody knows whether {} was removed: {error}", self.directory.display());
        }
    }
}

/// The shell with the script and those of its arguments that every kind has.
fn shell(kind: &str, durable: bool) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", SCRIPT, "multicredit-guardian", kind, if durable { "durable" } else { "fast" }])
        // An account that servers run as may not be able to read the current directory.
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    // PGDATA, PGOPTIONS and their like mean the developer's server, not this one.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
    command
}

/// What the guardian said: the port and directory that are ready, or else everything it printed.
fn announced(stdout: ChildStdout) -> anyhow::Result<Result<(u16, PathBuf), String>> {
    let mut complaint = String::new();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if let Some((port, directory)) = line.strip_prefix("ready ").and_then(|rest| rest.split_once(' ')) {
            return Ok(Ok((port.parse()?, PathBuf::from(directory))));
        }
        complaint.push_str(&line);
        complaint.push('\n');
    }
    Ok(Err(complaint))
}

/// Ports on which nobody listens, all different.
fn free_ports() -> anyhow::Result<[u16; PORT_CANDIDATES]> {
    let mut ports = [0; PORT_CANDIDATES];
    // All are held until all are found, or one port might be found twice.
    let mut listeners = Vec::with_capacity(PORT_CANDIDATES);
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// The user and group that servers run as, where that is not whoever starts them.
fn server_account() -> anyhow::Result<Option<(u32, u32)>> {
    if id(&["-u"]) != Some(0) {
        return Ok(None);
    }
    let account = UNPRIVILEGED_ACCOUNTS.iter().find_map(|name| Some((id(&["-u", name])?, id(&["-g", name])?)));
    match account {
        Some(account) => Ok(Some(account)),
        None => bail!("servers do not run as root, and there is none of the accounts {UNPRIVILEGED_ACCOUNTS:?}"),
    }
}

/// The number that the program `id` prints: Rust's library does not know the account it runs as.
fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
