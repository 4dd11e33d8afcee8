//! What the fault run is made of: who asks, what was answered, and what goes wrong meanwhile.
//!
//! Everything that a run sends is in its journal before it is sent, with a key. What is answered is classified as done,
//! refused or unknown; any other answer fails the run. At the end the journal says what must be in the ledger, and what
//! must not.

mod exchange;
mod journal;
mod schedule;

pub use exchange::{Outcome, exchange};
pub use journal::{Asked, Journal};
pub use schedule::{Fault, Random};
