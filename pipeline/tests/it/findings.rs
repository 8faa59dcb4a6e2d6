//! What fuzzing found in the DAG parser: a DAG or mistakes that name the file, never a panic.

use std::fs;
use std::path::Path;

use pipeline::Dag;

#[test]
fn no_text_makes_the_parser_panic() {
    let folder = Path::new(env!("WORKSPACE_ROOT")).join("fuzz/findings/dag");
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let Ok(text) = String::from_utf8(bytes) else { continue };
        files += 1;
        if let Err(error) = Dag::parse("fuzz.yaml", &text) {
            assert!(error.to_string().contains("fuzz.yaml"), "{}: {error}", path.display());
        }
    }
    assert!(files > 0, "nothing to replay");
}
