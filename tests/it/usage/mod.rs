//! Usage: reports and rollups against what plain Rust makes of the log, the summary against the report that it comes
//! from, and the jobs that keep them.

mod exact;
mod fences;
mod jobs;
mod naive;
mod roles;
mod summary;
