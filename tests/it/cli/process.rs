//! Starting the program, and what became of it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tests::app::Client;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PROGRAM: &str = env!("CARGO_BIN_EXE_multicredit-under-test");

/// How long the program may take for anything. It may take 25 s to stop, and takes far less here; the shortest benchmark
/// takes half a minute.
const PATIENCE: Duration = Duration::from_mins(3);

/// How a run of the program ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of and logged.
    pub stderr: String,
}

impl Ended {
    /// The same, if it is a success.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// What it printed, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The program with these arguments, on that database, and with nothing of this process's environment.
pub fn program(database_url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", database_url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs the program to its end.
pub async fn run(database_url: &str, arguments: &[&str]) -> Ended {
    finish(program(database_url, arguments)).await
}

/// Runs a command to its end.
pub async fn finish(mut command: Command) -> Ended {
    let output = timeout(PATIENCE, command.output()).await.expect("the program ends").unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The program as a server that listens, on a port of its own.
pub struct Server {
    process: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: JoinHandle<String>,
    /// A client of it without a key.
    pub client: Client,
}

impl Server {
    /// Starts it and waits until it says where it listens.
    pub async fn start(database_url: &str, arguments: &[&str]) -> Self {
        Self::spawn(program(database_url, &[&["serve"], arguments].concat())).await
    }

    /// Starts a command that serves.
    pub async fn spawn(mut command: Command) -> Self {
        let mut process = command.env("MULTICREDIT_LISTEN", "127.0.0.1:0").spawn().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap()).lines();
        let stderr = tokio::spawn(read_all(process.stderr.take().unwrap()));
        let listening = find_line(&mut stdout, "listening on http://").await;
        let Some(address) = listening.as_deref().and_then(|line| line.parse::<SocketAddr>().ok()) else {
            panic!("it does not listen: {:?}", stderr.await);
        };
        Self { process, stdout, stderr, client: Client::new(address) }
    }

    /// The next line of its standard output that begins so, without that beginning.
    pub async fn line(&mut self, beginning: &str) -> String {
        find_line(&mut self.stdout, beginning).await.unwrap_or_else(|| panic!("there is no line {beginning}"))
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.process.id().expect("it runs")
    }

    /// Asks it to stop, as supervisors do.
    pub async fn terminate(&self) {
        self.signal("TERM").await;
    }

    /// Sends it a signal.
    pub async fn signal(&self, name: &str) {
        signal(&self.id().to_string(), name).await;
    }

    /// Kills it, as a machine that fails would.
    pub async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    /// Waits for its end.
    pub async fn end(mut self) -> Ended {
        let status = timeout(PATIENCE, self.process.wait()).await.expect("the server ends").unwrap();
        let mut stdout = String::new();
        while let Some(line) = self.stdout.next_line().await.unwrap() {
            stdout.push_str(&line);
            stdout.push('\n');
        }
        Ended { code: status.code(), stdout, stderr: self.stderr.await.unwrap() }
    }

    /// Asks it to stop and asserts that it ends in order.
    pub async fn stop(self) -> Ended {
        self.terminate().await;
        self.end().await.succeeded()
    }
}

/// Sends a signal to the process of that id.
pub async fn signal(id: &str, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), id]).status().await.unwrap().success());
}

async fn read_all(mut stream: impl AsyncRead + Unpin) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

async fn find_line(lines: &mut Lines<BufReader<ChildStdout>>, beginning: &str) -> Option<String> {
    loop {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("it goes on or ends").unwrap()?;
        if let Some((_, rest)) = line.split_once(beginning) {
            return Some(rest.to_owned());
        }
    }
}

/// The data that comes with the tests.
pub fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}
