//! Compiles the protos in Rust: a build needs no protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    let files = ["headpond/v1/types.proto", "headpond/v1/master.proto", "headpond/v1/worker.proto"];
    for file in files {
        println!("cargo::rerun-if-changed={root}/{file}");
    }
    let descriptors = protox::compile(files, [root])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
