//! Turns `proto/*.proto` into Rust.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["rpc.proto", "lock.proto", "election.proto"], ["proto"])?;
    // Clients are not generated: `testnet/load` encodes its frames itself.
    tonic_prost_build::configure().build_client(false).compile_fds(files)?;
    Ok(())
}
