//! Makes Rust of the protocol's description. In Rust alone (`protox`), so that no machine needs `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    #[cfg(feature = "wire")]
    {
        let description = protox::compile(["foreshade/link/v1/link.proto"], ["proto"])?;
        tonic_prost_build::configure()
            // Shared by all links, and never copied.
            .bytes(".")
            // How connections are made is not the contract's business.
            .build_transport(false)
            .compile_fds(description)?;
    }
    Ok(())
}
