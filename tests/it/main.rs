//! The tests that need more than one crate or a database: one program, so that it links once.

#![expect(clippy::unwrap_used, reason = "in a test what fails to unwrap is the finding")]

mod alerts;
mod audit;
mod caches;
mod cli;
mod credit_types;
mod dashboard;
mod express;
mod fault;
mod harness;
mod holds;
mod http;
mod ledger;
mod licences;
mod migrating;
mod model;
mod pgbouncer;
mod report;
mod retention;
mod roles;
mod round_trips;
mod rpc;
mod rules;
mod usage;
mod verify;
mod webhooks;
