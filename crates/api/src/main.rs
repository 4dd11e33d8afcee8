//! The binary `multicredit`. Everything is in the library, where tests reach it.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Many small, short-lived allocations from several threads, a request's life, are what it is fast at. It does not ask for
/// huge pages: half of each connection's buffers is never touched, and a huge page would hold it all the same.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    multicredit::cli::main()
}
