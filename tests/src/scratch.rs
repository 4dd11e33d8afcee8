//! The directory for files of the tests, such as SQLite databases.
//!
//! A directory of the system's, cleaned up by each test, would keep whatever a killed test left there. This one goes
//! as a whole with the process, or with `with-servers` where the tests run under it.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::anyhow;

use multicredit::throwaway::Guardian;

/// The variable in which `with-servers` hands its directory to the test processes.
pub const DIRECTORY_VARIABLE: &str = "MULTICREDIT_TEST_SCRATCH";

static OWN: LazyLock<Result<Scratch, String>> =
    LazyLock::new(|| Scratch::start(false).map_err(|error| format!("{error:#}")));

/// A directory that is removed, with all that is in it, when this value is dropped or its process ends.
pub struct Scratch {
    guardian: Guardian,
}

impl Scratch {
    /// Makes a new one: in memory where that can be, on a disk if it must be `durable`, for benchmarks.
    pub fn start(durable: bool) -> anyhow::Result<Self> {
        Ok(Self { guardian: Guardian::directory_only(durable)? })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.guardian.directory()
    }
}

/// The directory that all tests share: that of `with-servers`, else one of this process.
pub fn shared_directory() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os(DIRECTORY_VARIABLE) {
        return Ok(path.into());
    }
    OWN.as_ref().map(|scratch| scratch.path().to_owned()).map_err(|error| anyhow!("{error}"))
}
