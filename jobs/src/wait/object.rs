//! The job `wait_for_object`: waits for an object, or for objects under a prefix.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, Utc};
use futures::StreamExt;
use pipeline::{Cancel, Job, JobContext, JobError, JobOutput};
use platform::Error;
use platform::object_store::{self, Location, ObjectMeta};
use serde_json::{Value, json};
use tracing::debug;

use crate::text;
use crate::with::{Keys, Templates};

use super::INTERVAL;

const KEYS: [&str; 6] = ["object", "prefix", "min_count", "min_size", "stable_for", "interval"];

/// Keys that the output names; of further ones it has the number only.
const MOST_KEYS: usize = 1_000;

/// Bytes of keys in the output: half of what an output may have.
const MOST_KEY_BYTES: usize = 128 * 1024;

/// The job kind `wait_for_object`. Output of one object: `{"uri", "key", "size", "version", "modified"}`; of a prefix:
/// `{"uri", "count", "size", "modified", "keys", "more"}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct WaitForObjectJob;

#[derive(Debug)]
struct Settings {
    /// `None` while it is a template.
    place: Option<Place>,
    min_count: u64,
    min_size: u64,
    stable_for: Duration,
    interval: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Object { root: Location, key: String },
    Prefix(Location),
}

/// What lies under a prefix.
#[derive(Debug, Default)]
struct Found {
    count: u64,
    size: u64,
    newest: Option<DateTime<Utc>>,
    keys: Vec<String>,
    key_bytes: usize,
}

impl WaitForObjectJob {
    /// The job.
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Job for WaitForObjectJob {
    fn kind(&self) -> &'static str {
        "wait_for_object"
    }

    fn check(&self, with: &Value) -> Result<(), String> {
        Settings::read(with, Templates::Unrendered).map(drop)
    }

    async fn run(&self, context: JobContext, with: Value) -> Result<JobOutput, JobError> {
        let settings = Settings::read(&with, Templates::Rendered).map_err(JobError::permanent)?;
        tokio::select! {
            biased;
            () = context.cancel.cancelled() => Err(JobError::interrupted()),
            result = settings.look(&context.cancel) => result,
        }
    }
}

impl Settings {
    fn read(with: &Value, templates: Templates) -> Result<Self, String> {
        let keys = Keys::new(with, &KEYS, templates)?;
        let place = match (keys.has("object"), keys.has("prefix")) {
            (true, false) if keys.has("min_count") => return Err("`min_count` goes with `prefix`".to_owned()),
            (true, false) => keys.filled_text("object")?.map(read_object).transpose()?,
            (false, true) => keys.filled_text("prefix")?.map(read_prefix).transpose()?,
            _ => return Err("give either `object` or `prefix`".to_owned()),
        };
        let min_count = match keys.number("min_count", 1)? {
            0 => return Err("`min_count` must be at least 1: there is always nothing to be found".to_owned()),
            count => count,
        };
        Ok(Self {
            place,
            min_count,
            min_size: keys.number("min_size", 0)?,
            stable_for: keys.duration("stable_for", Duration::ZERO)?,
            interval: keys.positive_duration("interval", INTERVAL)?,
        })
    }

    async fn look(&self, cancel: &Cancel) -> Result<JobOutput, JobError> {
        match &self.place {
            Some(Place::Object { root, key }) => self.look_for_object(root, key).await,
            Some(Place::Prefix(root)) => self.look_under(root, cancel).await,
            None => Err(JobError::permanent("`object` and `prefix` have no value")),
        }
    }

    async fn look_for_object(&self, root: &Location, key: &str) -> Result<JobOutput, JobError> {
        let uri = root.uri(key);
        let store = object_store::open(root).await.map_err(failed)?;
        let object = match store.head(key).await {
            Ok(object) => object,
            Err(Error::NotFound { .. }) => return Err(self.not_yet(&format!("{uri} is not there"))),
            Err(error) => return Err(failed(error)),
        };
        if object.size < self.min_size {
            let (size, least) = (object.size, self.min_size);
            return Err(self.not_yet(&format!("{uri} has {size} of at least {least} bytes")));
        }
        self.check_stable(&uri, object.modified, Utc::now())?;
        let value = json!({
            "uri": uri,
            "key": full_key(root, key),
            "size": object.size,
            "version": object.version,
            "modified": shown(object.modified),
        });
        Ok(JobOutput { value, failures: 0, summary: format!("{uri} is there ({} bytes)", object.size) })
    }

    async fn look_under(&self, root: &Location, cancel: &Cancel) -> Result<JobOutput, JobError> {
        let store = object_store::open(root).await.map_err(failed)?;
        let mut found = Found::default();
        let mut objects = store.list("");
        while let Some(object) = objects.next().await {
            match object {
                Ok(object) if object.size >= self.min_size => found.add(object),
                Ok(_) => {}
                Err(Error::NotFound { .. }) => {}
                Err(error) if error.is_about_one_object() => debug!(%error, "not counted"),
                Err(error) => return Err(failed(error)),
            }
            if cancel.is_cancelled() {
                return Err(JobError::interrupted());
            }
        }
        if found.count < self.min_count {
            let (count, least) = (found.count, self.min_count);
            return Err(self.not_yet(&format!("{root} has {count} of at least {least} objects")));
        }
        let newest = found.newest.unwrap_or_default();
        self.check_stable(&root.to_string(), newest, Utc::now())?;
        let more = found.count > found.keys.len() as u64;
        let value = json!({
            "uri": root.to_string(),
            "count": found.count,
            "size": found.size,
            "modified": shown(newest),
            "keys": found.keys,
            "more": more,
        });
        Ok(JobOutput { value, failures: 0, summary: format!("{} objects in {root}", found.count) })
    }

    /// Fails while the last change is not long enough ago; then looks again when it will be, if nothing changes.
    fn check_stable(&self, uri: &str, modified: DateTime<Utc>, now: DateTime<Utc>) -> Result<(), JobError> {
        // A change in the future is the doing of clocks that differ.
        let age = (now - modified).to_std().unwrap_or_default();
        match self.stable_for.checked_sub(age) {
            None | Some(Duration::ZERO) => Ok(()),
            Some(left) => {
                let (age, wanted) = (text::duration(age), text::duration(self.stable_for));
                let message = format!("waiting: {uri} was changed {age} ago, not yet {wanted}");
                Err(JobError::not_yet(message, left.min(self.interval)))
            }
        }
    }

    fn not_yet(&self, reason: &str) -> JobError {
        JobError::not_yet(format!("waiting: {reason}"), self.interval)
    }
}

impl Found {
    fn add(&mut self, object: ObjectMeta) {
        self.count += 1;
        self.size += object.size;
        self.newest = self.newest.max(Some(object.modified));
        self.key_bytes += object.key.len();
        if self.keys.len() < MOST_KEYS && self.key_bytes <= MOST_KEY_BYTES {
            self.keys.push(object.key);
        }
    }
}

fn read_object(text: &str) -> Result<Place, String> {
    if text.ends_with('/') {
        return Err("`object` ends with `/`: name an object, or use `prefix`".to_owned());
    }
    let nameless =
        || format!("`object` is `{text}`, which names no object: write s3://bucket/key or the path of a file");
    match Location::parse(text).map_err(|error| format!("`object`: {error}"))? {
        Location::S3 { prefix, .. } if prefix.is_empty() => Err(nameless()),
        Location::S3 { bucket, prefix } => {
            let (folder, name) = prefix.rsplit_once('/').unwrap_or(("", &prefix));
            Ok(Place::Object { root: Location::S3 { bucket, prefix: folder.to_owned() }, key: name.to_owned() })
        }
        Location::Local(path) => {
            let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(nameless)?;
            let folder = path.parent().unwrap_or(Path::new("/"));
            Ok(Place::Object { root: Location::Local(folder.to_owned()), key: name.to_owned() })
        }
    }
}

fn read_prefix(text: &str) -> Result<Place, String> {
    Location::parse(text).map(Place::Prefix).map_err(|error| format!("`prefix`: {error}"))
}

/// The key in its bucket, or the path.
fn full_key(root: &Location, key: &str) -> String {
    match root.join(key) {
        Location::S3 { prefix, .. } => prefix,
        Location::Local(path) => path.to_string_lossy().into_owned(),
    }
}

fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn failed(error: Error) -> JobError {
    match error.is_transient() {
        true => JobError::transient(error.to_string()),
        false => JobError::permanent(error.to_string()),
    }
}
