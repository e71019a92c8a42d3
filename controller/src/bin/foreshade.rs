//! `foreshade`: by which people ask the controller and give it orders.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: whoever comes first decides.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    foreshade_controller::cli::foreshade::main()
}
