//! From what a program leaves behind to the output of its task.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use pipeline::JobError;
use pipeline::job::MAX_OUTPUT_BYTES;
use serde_json::Value;
use tempfile::TempPath;

use super::capture::Capture;
use super::settings::Output;

/// The file that a program may write its output to; removed when dropped.
pub(super) struct OutputFile(TempPath);

impl OutputFile {
    /// An empty file in the run's folder.
    pub(super) fn create(folder: &Path) -> Result<Self, JobError> {
        let file = tempfile::Builder::new().prefix(".safari-output-").tempfile_in(folder);
        let failed = |error| JobError::transient(format!("cannot make a file in {}: {error}", folder.display()));
        Ok(Self(file.map_err(failed)?.into_temp_path()))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Its content, at most one byte more than an output may have; nothing when the program removed it.
    fn read(&self) -> Result<Vec<u8>, JobError> {
        // Opening a pipe that the program put there would wait for a writer.
        if !fs::metadata(&self.0).is_ok_and(|metadata| metadata.is_file()) {
            return Ok(Vec::new());
        }
        let mut content = Vec::new();
        let most = MAX_OUTPUT_BYTES as u64 + 1;
        let read = File::open(&self.0).and_then(|file| file.take(most).read_to_end(&mut content));
        read.map_err(|error| JobError::transient(format!("cannot read $SAFARI_OUTPUT: {error}")))?;
        Ok(content)
    }
}

/// The output: from the file when there is anything in it, else from standard output.
pub(super) fn value(wanted: Option<Output>, file: OutputFile, stdout: &Capture<'_>) -> Result<Value, JobError> {
    if wanted == Some(Output::Nothing) {
        return Ok(Value::Null);
    }
    let content = file.read()?;
    let in_file = !content.trim_ascii().is_empty();
    let value = match wanted {
        Some(Output::Text) => text(if in_file { &content } else { stdout.whole() })?,
        _ if in_file => json(&content, "$SAFARI_OUTPUT")?,
        Some(_) => json(stdout.last_line(), "the last line of its stdout")?,
        None => json_or_nothing(stdout.last_line())?,
    };
    if value.to_string().len() > MAX_OUTPUT_BYTES { Err(too_large()) } else { Ok(value) }
}

fn text(content: &[u8]) -> Result<Value, JobError> {
    check_size(content)?;
    Ok(Value::from(String::from_utf8_lossy(content).trim_end()))
}

fn json(content: &[u8], place: &str) -> Result<Value, JobError> {
    check_size(content)?;
    let wrong =
        |error| format!("the program succeeded, but {place} is no JSON ({error}): write one value, or set `output`");
    serde_json::from_slice(content).map_err(|error| JobError::permanent(wrong(error)))
}

/// A last line that is no JSON is a line like any other, unless it looks like JSON and is too long to tell.
fn json_or_nothing(line: &[u8]) -> Result<Value, JobError> {
    if line.trim_ascii_start().starts_with(b"{") || line.trim_ascii_start().starts_with(b"[") {
        check_size(line)?;
    }
    Ok(serde_json::from_slice(line).unwrap_or_default())
}

fn check_size(content: &[u8]) -> Result<(), JobError> {
    if content.len() > MAX_OUTPUT_BYTES { Err(too_large()) } else { Ok(()) }
}

fn too_large() -> JobError {
    JobError::permanent(format!(
        "the output has more than the {MAX_OUTPUT_BYTES} bytes allowed: write it to $SAFARI_WORK_DIR or a bucket and give \
         back its name, or set `output: none`"
    ))
}
