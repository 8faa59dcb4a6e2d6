//! A disk that fills up in the middle of a run: one clear message, nothing half-written, and the run goes on later.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

/// Runs on a file system of a few megabytes, then on the same one enlarged, and prints counts.
const SCRIPT: &str = r#"
set -u
mount -t tmpfs -o size=$SMALL tmpfs "$DISK" || exit 77
"$SAFARI" --home "$DISK/home" run dags/detect.yaml --param source=data-samples
echo "first ended with $?"
find "$DISK" -name '*.parquet' -size 0 -print
mount -o remount,size=300m "$DISK"
"$SAFARI" --home "$DISK/home" run dags/detect.yaml --param source=data-samples
echo "second ended with $?"
"$SAFARI" --home "$DISK/home" sql --format csv \
  "select 'rows', count(*), count(distinct uri), (select count(*) - count(distinct detection_id) from detections) from media"
"#;

#[test]
fn a_full_disk_ends_the_run_clearly_and_it_goes_on_with_room() {
    let root = Path::new(env!("WORKSPACE_ROOT")).canonicalize().unwrap();
    for small in ["200k", "1m", "4m"] {
        let disk = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", SCRIPT]).current_dir(&root);
        command.env("SMALL", small).env("DISK", disk.path()).env("SAFARI", env!("CARGO_BIN_EXE_safari"));
        let output = command.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.code() == Some(77) || said.contains("unshare failed") {
            eprintln!("SKIPPED: this machine lets nobody mount a file system of his own: {said}");
            return;
        }
        assert!(said.contains("first ended with 1"), "{small}: {said}");
        assert!(
            said.contains("no space left")
                && said.contains(&disk.path().display().to_string())
                && said.contains("free some space"),
            "{small}: {said}"
        );
        assert_eq!(said.matches("error: ").count(), 1, "{small}: {said}");
        assert!(!said.contains(".parquet"), "half-written tables, {small}: {said}");
        assert!(said.contains("second ended with 0"), "{small}: {said}");
        assert!(said.contains("rows,34,34,0"), "{small}: {said}");
    }
}
