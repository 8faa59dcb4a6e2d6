//! Any text as a DAG file: a DAG or mistakes with their places, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pipeline::Dag;

fuzz_target!(|text: &str| {
    if let Err(error) = Dag::parse("fuzz.yaml", text) {
        assert!(error.to_string().contains("fuzz.yaml"), "a mistake without a place: {error}");
    }
});
