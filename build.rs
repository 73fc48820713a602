//! Compiles `proto/` and nothing else. Protox parses the files, so that no protoc is needed on the machine.

use protox::prost::Message as _;
use std::error::Error;
use std::path::Path;
use std::{env, fs};

const ROOT: &str = "proto";
const FILES: [&str; 5] = [
    "lapstrake/v1/agent.proto",
    "lapstrake/v1/assignment.proto",
    "lapstrake/v1/enrolment.proto",
    "lapstrake/v1/report.proto",
    "lapstrake/v1/spec.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}/lapstrake");
    // The comments stay in the descriptor, because a test reads from it who may call what, and what a retry does.
    let descriptor = protox::Compiler::new([ROOT])?.include_source_info(true).open_files(FILES)?.file_descriptor_set();
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("descriptor.bin"), descriptor.encode_to_vec())?;
    tonic_prost_build::configure()
        // The same message is always the same bytes.
        .btree_map(".")
        // A join token's secret, a service's variables and values must not reach a log by way of `{:?}`; see `proto/lib.rs`.
        .skip_debug(["lapstrake.v1.EnrolRequest", "lapstrake.v1.GivenValue", "lapstrake.v1.ServiceSpec"])
        .compile_fds(descriptor)?;
    Ok(())
}
