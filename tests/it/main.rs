//! The tests that need more than one crate or a database: one program, so that it links once.

mod express;
mod harness;
mod http;
mod ledger;
mod model;
mod rules;
mod verify;
