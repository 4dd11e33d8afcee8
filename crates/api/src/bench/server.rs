//! The server that is measured: this program's `serve`, as a process of its own, so that its memory and its processor
//! time are its own too.
//!
//! It ends with its owner, however that ends, for the same reason and in the same way as throwaway databases do (see
//! `throwaway/guardian.rs`). It is killed: nobody waits for anything, and what it has acknowledged has to be there.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, bail};

/// Starts a command, says its process's id, and kills it at the end of the input. It keeps no hold of the output, whose
/// end is then the end of the command.
const SCRIPT: &str = r#"trap : HUP INT TERM PIPE
"$@" </dev/null &
echo "pid $!"
exec >/dev/null
cat
kill -KILL $!
wait"#;

const LISTENING: &str = "listening on http://";

/// A server that ends when this value is dropped or its process ends.
pub struct Server {
    shell: Child,
    /// `Some` until dropped: the pipe whose end ends the server.
    lifeline: Option<ChildStdin>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process's id.
    pub pid: u32,
}

impl Server {
    /// Starts one on that database, with more settings of its environment, and waits until it listens. It blocks.
    pub fn start(database_url: &str, more: &[(&str, String)]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program does not know where it is")?;
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "multicredit-bench"])
            .arg(program)
            .arg("serve")
            .env("DATABASE_URL", database_url)
            .env("MULTICREDIT_LISTEN", "127.0.0.1:0")
            .env("MULTICREDIT_LOG", "warn")
            .env_remove("MULTICREDIT_DEMO")
            .envs(more.iter().map(|(name, value)| (name, value)))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a shell")?;
        let lifeline = shell.stdin.take();
        let mut lines = BufReader::new(shell.stdout.take().context("the server has no output")?).lines();
        let pid = lines.next().context("the server did not start")??;
        let pid = pid.strip_prefix("pid ").and_then(|pid| pid.parse().ok()).context("the shell named no process")?;
        for line in lines {
            if let Some(address) = line?.strip_prefix(LISTENING) {
                return Ok(Self { shell, lifeline, address: address.parse()?, pid });
            }
        }
        drop(lifeline);
        shell.wait()?;
        bail!("the server ended before it listened")
    }
}

impl Drop for Server {
    /// Returns once the server is gone.
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.shell.wait();
    }
}
