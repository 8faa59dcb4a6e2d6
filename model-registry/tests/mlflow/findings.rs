//! What fuzzing and the differ ask of the filter parser: conditions or a refusal in words, never a panic.

use std::path::Path;

use model_registry::ErrorCode;
use model_registry::filter::{Searched, check};

#[test]
fn no_text_makes_the_parser_panic() {
    let all = [Searched::Experiments, Searched::Runs, Searched::LoggedModels, Searched::Models, Searched::Versions];
    let folder = Path::new(env!("WORKSPACE_ROOT")).join("fuzz/findings/filter");
    let (mut taken, mut refused) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let Ok(text) = String::from_utf8(bytes) else { continue };
        for searched in all {
            match check(searched, &text) {
                Ok(()) => taken += 1,
                Err(error) => {
                    assert_eq!(error.code(), ErrorCode::InvalidParameterValue, "{text}: {error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(taken > 50 && refused > 50, "{taken} taken, {refused} refused");
    // Deep nesting and long texts are refused or read, never a panic.
    for text in ["(".repeat(5_000), "tags.a = 'b' AND ".repeat(1_000), format!("tags.`{}` = 'a'", "x".repeat(100_000))]
    {
        let _ = check(Searched::Runs, &text);
    }
}
