//! Usage: reports and rollups against what plain Rust makes of the log.

mod exact;
mod fences;
mod naive;
