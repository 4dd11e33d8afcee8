//! A throwaway PostgreSQL server, made from the installed programs.
//!
//! A server never outlives its owner, and works for root as for anybody else; see `guardian.rs` for how. Many can run
//! at once, each in its own directory and on its own port of 127.0.0.1.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Guardian;

/// Debian's place for the server programs, one folder a version, which are not on the `PATH`.
const DEBIAN_VERSIONS: &str = "/usr/lib/postgresql";

/// A PostgreSQL server that stops and is removed when this value is dropped or its process ends.
///
/// It trusts every connection from this machine; its superuser is `postgres`.
pub struct Postgres {
    guardian: Guardian,
}

impl Postgres {
    /// Makes and starts one from the programs in that folder, [`bin_directory`]. It takes about a second and blocks.
    ///
    /// `durable` is for benchmarks and for tests of crashes: such a server is on a disk and syncs to it at every
    /// commit, as in production. The others are in memory where that can be and never sync, which makes them several
    /// times faster.
    pub fn start(durable: bool, bin_directory: &Path) -> anyhow::Result<Self> {
        Ok(Self { guardian: Guardian::server("postgres", durable, bin_directory)? })
    }

    /// `postgres://user@host:port`, to which `/database` may be added.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}", self.guardian.port())
    }

    /// The server's data directory.
    pub fn data_directory(&self) -> PathBuf {
        self.guardian.directory().join("data")
    }
}

/// The folder of the server programs: the one that was named, the one on the `PATH`, or Debian's highest version.
pub fn bin_directory(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    named
        .or_else(on_path)
        .or_else(debian_newest)
        .context("PostgreSQL's server programs (initdb, postgres) are not installed, or not where they are looked for")
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Some link only a few of the programs into the path, so it is the folder behind the link that counts.
    std::env::split_paths(&path)
        .filter_map(|folder| Some(folder.join("initdb").canonicalize().ok()?.parent()?.to_owned()))
        .find(|folder| is_complete(folder))
}

fn debian_newest() -> Option<PathBuf> {
    let versions = std::fs::read_dir(DEBIAN_VERSIONS).ok()?;
    versions
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .map(|version| (version, Path::new(DEBIAN_VERSIONS).join(version.to_string()).join("bin")))
        .filter(|(_, folder)| is_complete(folder))
        .max()
        .map(|(_, folder)| folder)
}

fn is_complete(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file())
}
