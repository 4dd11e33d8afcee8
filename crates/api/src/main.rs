//! The binary `multicredit`. Everything is in the library, where tests reach it.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Many small, short-lived allocations from several threads, a request's life, are what it is fast at.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    multicredit::cli::main()
}
