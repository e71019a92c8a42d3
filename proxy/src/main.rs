//! `foreshade-proxy`: the allocator, the TLS provider, and on to the command line.

use std::process::ExitCode;

/// pingora allocates 64 KiB per answered body; mimalloc serves that size from lists of the thread itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // First of all: whoever comes first decides, and pingora would install ring.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    foreshade_proxy::cli::main()
}
