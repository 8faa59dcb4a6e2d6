//! The job `report`: a self-contained page of what a source shows, and annotated pictures beside it.

mod frames;
mod page;
mod pictures;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use pipeline::{Job, JobContext, JobError, JobOutput};
use platform::object_store::{self, Location};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::services::Services;
use crate::{Error, Result};

/// The job kind `report`. Output: `{"page": path, "pictures": folder, "animals": n, "species": n}`.
#[derive(Debug)]
pub struct ReportJob {
    services: Arc<Services>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    /// Folder or `s3://bucket/prefix`; the page is about all media under it.
    source: String,
    /// Most pictures to annotate.
    #[serde(default = "default_pictures")]
    pictures: usize,
}

fn default_pictures() -> usize {
    60
}

impl ReportJob {
    /// The job with the services of this process.
    pub fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    async fn report(&self, context: &JobContext, with: With) -> Result<JobOutput> {
        let location = Location::parse(&with.source)?;
        let lake = self.services.lake().await?;
        context.progress(0, 0, "reading the tables");
        let tables = frames::read(lake, &location, self.services.model_version().await?.as_str()).await?;
        let summary = frames::summarise(&tables)?;

        detector::allocator::release();

        let folder = self.folder(context);
        let store = object_store::open(&location).await?;
        let chosen = pictures::choose(&tables, with.pictures);
        let drawn = pictures::draw(store, chosen, &folder.join("pictures"), self.services.config(), context).await?;
        let page = folder.join("index.html");
        page::write(&page, &location, &tables, &summary, &drawn, self.services.model_version().await?.as_str())?;

        let (animals, species) = (summary.animals, summary.species.len());
        Ok(JobOutput {
            value: json!({
                "page": page.display().to_string(),
                "pictures": folder.join("pictures").display().to_string(),
                "animals": animals,
                "species": species,
            }),
            failures: 0,
            summary: format!("{animals} animals of {species} kinds, {} pictures annotated", drawn.len()),
        })
    }

    /// One folder a run under `<home>/reports`.
    fn folder(&self, context: &JobContext) -> PathBuf {
        let home = std::path::absolute(&self.services.config().home);
        home.unwrap_or_else(|_| self.services.config().home.clone()).join("reports").join(context.run_id.to_string())
    }
}

#[async_trait]
impl Job for ReportJob {
    fn kind(&self) -> &'static str {
        "report"
    }

    fn check(&self, with: &Value) -> std::result::Result<(), String> {
        crate::services::check_with(with, &["source", "pictures"], &["source"])
    }

    async fn run(&self, context: JobContext, with: Value) -> std::result::Result<JobOutput, JobError> {
        let with = serde_json::from_value(with).map_err(|error| JobError::permanent(format!("report: {error}")))?;
        Ok(self.report(&context, with).await?)
    }
}

fn write_file(path: &std::path::Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::write(folder))?;
    }
    std::fs::write(path, bytes).map_err(Error::write(path))
}
