//! What is asserted of whatever anybody may send: one function for each fuzz target.
//!
//! `fuzz/` gives them what libFuzzer makes up, for as long as one likes. The test here gives them the same corpora, and
//! what a generator with a seed makes of those, in a second. This is part of no program: cargo-fuzz builds with
//! `cfg(fuzzing)`.
//!
//! Each function panics where something does not hold, and answers whether any reader took the input, so that a corpus of
//! nothing but refusals can be told from a good one.

mod amounts;
mod bodies;
mod cloud_events;
mod cursors;
mod keys;
#[cfg(test)]
mod tests;

pub use self::amounts::amounts;
pub use self::bodies::{bodies, learn};
pub use self::cloud_events::cloud_events;
pub use self::cursors::cursors;
pub use self::keys::keys;
pub use crate::cli::fuzz_csv as csv;

use serde::Serialize;

use crate::problem::Problem;

/// A refusal must be the caller's fault: what is ours is 5xx, and comes of a bug.
fn is_refusal(problem: &Problem) {
    assert!(problem.status().is_client_error(), "{problem:?}");
}

/// The value as JSON.
fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("what was read can be written")
}
