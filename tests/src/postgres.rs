//! The PostgreSQL server that the tests share.
//!
//! The tests need a real PostgreSQL, of the version that is installed, and it must be private to the run: its settings
//! are unsafe for data that anybody wants to keep, and a run must not depend on what an earlier one left. Starting one
//! takes about a second, so all tests of a run share one and have a database each ([`TestDb`](crate::TestDb)).

use std::sync::LazyLock;

use anyhow::{Context, anyhow};
use multicredit::throwaway;

pub use multicredit::throwaway::Postgres;

/// The variable in which `with-servers` hands its server to the test processes. Its value is
/// `postgres://user@host:port`, without a database; whoever sets it to a server of their own finds databases named
/// `test_...` and `template_...` there.
pub const URL_VARIABLE: &str = "MULTICREDIT_TEST_POSTGRES_URL";

/// The variable that names the folder of `initdb` and `postgres`, where they stand in an unusual place.
pub const BIN_VARIABLE: &str = "MULTICREDIT_TEST_POSTGRES_BIN";

static OWN: LazyLock<Result<Postgres, String>> = LazyLock::new(|| start(false).map_err(|error| format!("{error:#}")));

/// Makes and starts one, `durable` or fast. It takes about a second and blocks.
pub fn start(durable: bool) -> anyhow::Result<Postgres> {
    let bin = throwaway::bin_directory(std::env::var_os(BIN_VARIABLE).map(Into::into))
        .with_context(|| format!("{BIN_VARIABLE} can say where PostgreSQL's programs are"))?;
    Postgres::start(durable, &bin)
}

/// The URL, without a database, of the server that all tests share: that of `with-servers`, else one of this process.
pub fn shared_url() -> anyhow::Result<String> {
    if let Ok(url) = std::env::var(URL_VARIABLE) {
        return Ok(url);
    }
    OWN.as_ref().map(Postgres::url).map_err(|error| anyhow!("{error}"))
}
