//! The tests that need more than one crate or a database: one program, so that it links once.

mod harness;
mod ledger;
mod rules;
mod verify;
