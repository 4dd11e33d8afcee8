//! Throwaway servers and directories, for `multicredit bench` and for the tests: made from what is installed, private
//! to whoever starts them, and gone with them however they end ([`Guardian`]).

mod guardian;
mod postgres;

use std::path::PathBuf;

use anyhow::Context;

pub use self::guardian::Guardian;
pub use self::postgres::{Postgres, bin_directory};

/// The program of Redis.
pub fn redis_server() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("redis-server"));
    programs.find(|program| program.is_file()).context("redis-server is not installed")
}
