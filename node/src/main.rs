//! The `starling` program.

use std::process::ExitCode;

/// Returns memory to the system where the default allocator keeps it, and fragments less.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    starling::cli::main()
}
