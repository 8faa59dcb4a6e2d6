//! What is printed at the end of a run: what was found, where the pictures are, and what to try next.

use std::io::{BufWriter, Write, stdout};
use std::path::Path;

use jobs::Services;
use lake::OutputFormat;
use pipeline::{RunOutcome, RunState};

use crate::error::{Error, Result};

/// Prints the outcome and, for runs that wrote a report, the commonest kinds.
pub(crate) async fn print(outcome: &RunOutcome, services: &Services) -> Result<()> {
    let folder = std::path::absolute(&services.config().home)
        .map_err(Error::write(&services.config().home))?
        .join("reports")
        .join(outcome.run_id.to_string());
    let page = folder.join("index.html");
    if page.exists() {
        print_kinds(services).await?;
    }
    let mut out = BufWriter::new(stdout());
    write(&mut out, outcome, &page, services).map_err(Error::write("stdout"))
}

async fn print_kinds(services: &Services) -> Result<()> {
    let version = services.model_version().await?;
    let query = format!(
        "select coalesce(species, 'animal, kind unknown') as kind, scientific_name, rank, count(*) as seen, \
         round(max(species_confidence), 2) as best from observations where model_version = '{version}' \
         group by 1, 2, 3 order by seen desc, kind limit 25"
    );
    let rows = services.lake().await?.sql(&query).await?;
    let mut out = BufWriter::new(stdout());
    lake::format::write(rows, OutputFormat::Table, &mut out).await?;
    out.flush().map_err(Error::write("stdout"))
}

fn write(out: &mut impl Write, outcome: &RunOutcome, page: &Path, services: &Services) -> std::io::Result<()> {
    let how = match outcome.state {
        RunState::SucceededWithFailures => format!("succeeded with failures: {} files not readable", outcome.failures),
        state => state.to_string(),
    };
    writeln!(out, "\nrun {} {how} in {:.1} s", outcome.run_id, outcome.seconds)?;
    if !page.exists() {
        return out.flush();
    }
    let (program, home) = (program(), services.config().home.display());
    writeln!(out, "  report    {}", page.display())?;
    writeln!(out, "  pictures  {}", page.with_file_name("pictures").display())?;
    writeln!(out, "\nTry next:")?;
    writeln!(
        out,
        "  {program} --home {home} sql \"select deployment, species, count(*) as n from observations group by 1, 2 order by n desc\""
    )?;
    if outcome.failures > 0 {
        writeln!(out, "  {program} --home {home} sql \"select uri, failure from media where failure is not null\"")?;
    }
    writeln!(out, "  {program} --home {home} export --format megadetector --output detections.json")?;
    writeln!(out, "  {program} detect PHOTOGRAPH --annotate DIR")?;
    out.flush()
}

/// What the shell was told to start, so that the commands can be copied: it may be on no `PATH` yet.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "safari".to_owned())
}
