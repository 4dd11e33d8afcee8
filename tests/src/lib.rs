//! The harness of the workspace's tests.
//!
//! A test of this workspace runs against real databases, on both engines, and never shares one with another test. This
//! crate makes that cheap enough to be the default: [`both_engines!`] turns one body into a test on each engine, each
//! with a fresh, migrated [`TestDb`]; the servers beneath are throwaway ones that this crate starts and that end with
//! the run, whatever becomes of it ([`postgres`], [`redis`]).
//!
//! `make test` runs everything under the program `with-servers`, which starts the servers once for all test processes
//! and names them in environment variables. A plain `cargo test` works as well: a process that finds no such variable
//! starts servers of its own when it first needs them. Under a plain `cargo nextest run`, where every test is a
//! process, that costs about a second a test.

pub mod app;
mod both_engines;
mod database;
pub mod exposition;
pub mod fault;
pub mod fixtures;
pub mod oracle;
pub mod pgbouncer;
pub mod postgres;
pub mod proxy;
pub mod receiver;
pub mod redis;
pub mod rpc;
pub mod scratch;
pub mod webdriver;

pub use both_engines::run;
pub use database::{Contents, ContentsReader, Engine, TestDb};
