//! A throwaway Redis server, made from the installed program.
//!
//! Redis is optional for the product, as a second cache level, and so for most tests. Those that need one fail where it
//! is not installed rather than pass without having tested anything. All tests of a run share one, so each keeps to
//! keys of its own; a test that stops the server, or empties it, starts its own in about a tenth of a second.

use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::anyhow;

use multicredit::throwaway::{Guardian, redis_server};

/// The variable in which `with-servers` hands its server to the test processes: `redis://host:port`.
pub const URL_VARIABLE: &str = "MULTICREDIT_TEST_REDIS_URL";

static OWN: LazyLock<Result<Redis, String>> = LazyLock::new(|| Redis::start().map_err(|error| format!("{error:#}")));

/// A Redis server, which keeps nothing on disk, that stops when this value is dropped or its process ends.
pub struct Redis {
    guardian: Guardian,
}

impl Redis {
    /// Whether the program is installed, without which none can be started.
    pub fn is_installed() -> bool {
        redis_server().is_ok()
    }

    /// Starts one. It blocks until the server answers.
    pub fn start() -> anyhow::Result<Self> {
        let program = redis_server()?;
        Ok(Self { guardian: Guardian::server("redis", false, &program)? })
    }

    /// Starts one that speaks TLS alone, with a certificate of its own. It blocks until the server answers.
    pub fn start_with_tls() -> anyhow::Result<Self> {
        let program = redis_server()?;
        Ok(Self { guardian: Guardian::server("redis_tls", false, &program)? })
    }

    /// `redis://host:port`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.guardian.port())
    }

    /// The certificate of one that speaks TLS, which nobody trusts by itself.
    pub fn certificate(&self) -> PathBuf {
        self.guardian.directory().join("certificate.pem")
    }
}

/// The URL of the server that all tests share: that of `with-servers`, else one of this process.
pub fn shared_url() -> anyhow::Result<String> {
    if let Ok(url) = std::env::var(URL_VARIABLE) {
        return Ok(url);
    }
    OWN.as_ref().map(Redis::url).map_err(|error| anyhow!("{error}"))
}
