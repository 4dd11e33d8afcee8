//! A throwaway PostgreSQL server, made from the installed programs.
//!
//! The tests need a real PostgreSQL, of the version that is installed, and it must be private to the run: its settings
//! are unsafe for data that anybody wants to keep, and a run must not depend on what an earlier one left. Starting one
//! takes about a second, so all tests of a run share one and have a database each ([`TestDb`](crate::TestDb)).
//!
//! A server never outlives its owner, and works for root as for anybody else; see `guardian.rs` for how. Many can run
//! at once, each in its own directory and on its own port of 127.0.0.1.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, anyhow};

use crate::guardian::Guardian;

/// The variable in which `with-servers` hands its server to the test processes. Its value is
/// `postgres://user@host:port`, without a database; whoever sets it to a server of their own finds databases named
/// `test_...` and `template_...` there.
pub const URL_VARIABLE: &str = "MULTICREDIT_TEST_POSTGRES_URL";

/// The variable that names the folder of `initdb` and `postgres`, where they stand in an unusual place.
pub const BIN_VARIABLE: &str = "MULTICREDIT_TEST_POSTGRES_BIN";

/// Debian's place for the server programs, one folder a version, which are not on the `PATH`.
const DEBIAN_VERSIONS: &str = "/usr/lib/postgresql";

static OWN: LazyLock<Result<Postgres, String>> =
    LazyLock::new(|| Postgres::start(false).map_err(|error| format!("{error:#}")));

/// A PostgreSQL server that stops and is removed when this value is dropped or its process ends.
///
/// It trusts every connection from this machine; its superuser is `postgres`.
pub struct Postgres {
    guardian: Guardian,
}

impl Postgres {
    /// Makes and starts one. It takes about a second and blocks.
    ///
    /// `durable` is for benchmarks and for tests of crashes: such a server is on a disk and syncs to it at every
    /// commit, as in production. The others are in memory where that can be and never sync, which makes them several
    /// times faster.
    pub fn start(durable: bool) -> anyhow::Result<Self> {
        Ok(Self { guardian: Guardian::server("postgres", durable, &bin_directory()?)? })
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

/// The URL, without a database, of the server that all tests share: that of `with-servers`, else one of this process.
pub fn shared_url() -> anyhow::Result<String> {
    if let Ok(url) = std::env::var(URL_VARIABLE) {
        return Ok(url);
    }
    OWN.as_ref().map(Postgres::url).map_err(|error| anyhow!("{error}"))
}

/// The folder of the server programs: the one that was named, the one on the `PATH`, or Debian's highest version.
fn bin_directory() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os(BIN_VARIABLE) {
        return Ok(named.into());
    }
    on_path().or_else(debian_newest).with_context(|| {
        format!("PostgreSQL's server programs are not installed (initdb, postgres), or {BIN_VARIABLE} must say where")
    })
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
