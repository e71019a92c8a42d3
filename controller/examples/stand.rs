//! The API before a test double, for tools that want a server to talk to: `scripts/schemathesis` asks it everything
//! that its document allows, and what it does not. Prints the address that it listens on, and serves until it is
//! ended.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a test cannot set up it has to fail with"
)]

#[path = "../tests/stand/memory.rs"]
#[expect(dead_code, reason = "what only tests ask of the double")]
mod memory;

use std::sync::Arc;

use foreshade_controller::api::Api;
use foreshade_controller::config::AdminAddress;
use foreshade_door::{Door, Keys};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let door = Door::open(&AdminAddress::Tcp(([127, 0, 0, 1], 0).into()))?;
    #[expect(clippy::print_stdout, reason = "how the script learns the address")]
    if let Some(address) = door.tcp() {
        println!("{address}");
    }
    Api::new(Arc::<memory::Memory>::default(), Keys::default(), None)
        .serve(door)
        .await?;
    Ok(())
}
