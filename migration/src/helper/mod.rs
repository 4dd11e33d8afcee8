//! What the migrations of this set repeat: credit vectors, checks, keys, and the fork between the engines.
//!
//! Everything here is frozen together with the migrations that use it. A migration that has been applied somewhere
//! must go on meaning what it meant there, so a later migration that needs other columns or other values brings its
//! own instead of changing these.

pub mod credits;
pub mod engine;
pub mod table;

/// The states of an organization; `organization_credits` mirrors them, so the two checks must agree.
pub const ORGANIZATION_STATUSES: &[&str] = &["active", "frozen", "closed"];
