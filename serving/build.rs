//! Makes the messages and the service of the Open Inference Protocol from its description, without protoc; and lets test
//! binaries find libtorch where the set-up script laid it, with nothing in the environment.

use std::error::Error;
use std::path::PathBuf;

const FOLDER: &str = "proto";
const FILE: &str = "open_inference_grpc.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={FOLDER}/{FILE}");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(libtorch) = std::env::var("LIBTORCH").map(std::fs::canonicalize)
        && let Ok(folder) = libtorch
    {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.join("lib").display());
    }
    let mut compiler = protox::Compiler::new([FOLDER])?;
    compiler.include_source_info(true).include_imports(true).open_file(FILE)?;
    // For tests that compare it with what clients carry.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("open_inference.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().bytes(".inference").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
