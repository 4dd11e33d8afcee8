//! A throwaway pgbouncer in transaction mode, before the PostgreSQL server that all tests share.
//!
//! It lends one of three sessions of the server to each transaction, of whichever client: what a test does through it
//! must not rest on a session.

use std::path::PathBuf;

use anyhow::Context;

use multicredit::throwaway::Guardian;

/// Where Debian puts it, which is not on everybody's `PATH`.
const PLACES: [&str; 2] = ["/usr/sbin", "/usr/bin"];

/// A pgbouncer that stops when this value is dropped or its process ends.
pub struct Pgbouncer {
    guardian: Guardian,
}

impl Pgbouncer {
    /// Starts one before the server behind that URL. It blocks until it is up.
    pub fn start(server_url: &str) -> anyhow::Result<Self> {
        let program = program().context("pgbouncer is not installed")?;
        let port = server_url.rsplit(':').next().and_then(|rest| rest.split('/').next()).context("a URL has a port")?;
        Ok(Self { guardian: Guardian::server_with("pgbouncer", false, &program, Some(port))? })
    }

    /// The URL by which a database is reached through it.
    pub fn url(&self, database_url: &str) -> String {
        let database = database_url.rsplit('/').next().unwrap_or_default();
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.guardian.port())
    }
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(PLACES.map(PathBuf::from));
    folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file())
}
