//! Any text as a filter of any search: conditions or a refusal in words, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model_registry::ErrorCode;
use model_registry::filter::{Searched, check};

const ALL: [Searched; 5] =
    [Searched::Experiments, Searched::Runs, Searched::LoggedModels, Searched::Models, Searched::Versions];

fuzz_target!(|text: &str| {
    for searched in ALL {
        if let Err(error) = check(searched, text) {
            assert_eq!(error.code(), ErrorCode::InvalidParameterValue, "{searched:?}: {error}");
        }
    }
});
