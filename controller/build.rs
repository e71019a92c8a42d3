//! Compiles the vendored part of etcd's API into Rust, with a compiler written in Rust, so that no machine needs
//! protoc.

use std::error::Error;

/// What the client of etcd speaks.
const PROTO: &str = "etcd.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/{PROTO}");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
