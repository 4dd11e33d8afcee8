//! Throwaway servers and directories, for `multicredit bench` and for the tests: made from what is installed, private
//! to whoever starts them, and gone with them however they end ([`Guardian`]).

mod guardian;
mod postgres;

pub use self::guardian::Guardian;
pub use self::postgres::{Postgres, bin_directory};
