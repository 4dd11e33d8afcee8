//! multicredit: prepaid, multi-type credits for organizations, over HTTP and on the command line.
//!
//! A request comes in through [`middleware`], which gives it an id and reads its body; [`router`] finds its operation;
//! the operation, in [`resource`], opens what the caller may see through [`auth`], makes a command of the domain from
//! what [`payload`] and [`param`] read, and hands it to the store. What goes wrong anywhere becomes a [`problem`].
//! `docs/API.md` is for callers, `docs/ARCHITECTURE.md` for whoever works on this.

pub mod app;
pub mod auth;
mod background;
pub mod bench;
mod bounded;
pub mod cli;
pub mod cloud_event;
pub mod config;
pub mod dashboard;
mod directory;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod limits;
mod live;
pub mod metrics;
mod middleware;
pub mod occurrence;
mod openapi;
mod otlp;
mod page;
mod param;
mod payload;
pub mod problem;
pub mod rate_limit;
pub mod report;
mod resource;
mod router;
pub mod server;
pub mod shutdown;
pub mod throwaway;
pub mod webhook;
mod wire;
