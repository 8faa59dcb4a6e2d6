//! Where the benchmark finds what it measures.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Options;
use crate::error::{Error, Result};

/// The DAG of the whole job.
const DAG: &str = "dags/detect.yaml";

/// Folders, programs and the size of the measurements.
#[derive(Debug)]
pub(crate) struct Workplace {
    /// The repository's root.
    pub(crate) root: PathBuf,
    /// The program that is measured.
    safari: PathBuf,
    /// The same without libtorch; it may be missing.
    control_plane: PathBuf,
    /// This program, for the bare loop.
    bench: PathBuf,
    /// Folder with the original TorchScript files; it may be missing.
    pub(crate) originals: PathBuf,
    /// Photographs of the section `job`.
    pub(crate) images: usize,
    /// Whether only to see that all works.
    pub(crate) quick: bool,
}

impl Workplace {
    /// Looks for the programs; the working directory is the repository's root.
    pub(crate) fn find(options: Options) -> Result<Self> {
        let root = std::env::current_dir().map_err(Error::io("."))?;
        if !root.join(DAG).exists() {
            return Err(Error::Missing(format!("{DAG} is not here; run `make bench` in the repository's root")));
        }
        let bench = std::env::current_exe().map_err(Error::io("this program"))?;
        let safari = bench.with_file_name("safari");
        if !safari.exists() {
            return Err(Error::Missing(format!("{} is missing; run cargo build --workspace", safari.display())));
        }
        let control_plane = bench.with_file_name("safari-control-plane");
        let images = options.images.unwrap_or(if options.quick { 60 } else { 2000 }).max(1);
        let originals = root.join(options.originals);
        Ok(Self { root, safari, control_plane, bench, originals, images, quick: options.quick })
    }

    /// `few` with `--quick`, else `many`.
    pub(crate) fn pick(&self, many: usize, few: usize) -> usize {
        if self.quick { few } else { many }
    }

    /// The whole job over `source` with its state, tables and report in `home`.
    pub(crate) fn whole_job(&self, source: &Path, home: &Path) -> Command {
        let mut command = self.safari();
        command.arg("--home").arg(home).args(["run", DAG, "--param"]).arg(format!("source={}", source.display()));
        command
    }

    /// `safari detect` of one photograph.
    pub(crate) fn detect(&self, photograph: &Path) -> Command {
        let mut command = self.safari();
        command.arg("detect").arg(photograph);
        command
    }

    /// `safari run` of a DAG file.
    pub(crate) fn run_dag(&self, file: &Path, home: &Path) -> Command {
        let mut command = self.safari();
        command.arg("--home").arg(home).arg("run").arg(file);
        command
    }

    /// `safari server` with the project's DAGs, on any free port.
    pub(crate) fn server(&self, home: &Path) -> Command {
        let mut command = self.safari();
        command.arg("--home").arg(home).args(["server", "--dags", "dags", "--listen", "127.0.0.1:0"]);
        command
    }

    /// `safari registry` on a SQLite file and a folder of artifacts.
    pub(crate) fn registry(&self, home: &Path, port: u16, database: &Path, artifacts: &Path) -> Command {
        Self::as_registry(self.safari(), home, port, database, artifacts)
    }

    /// The same by the program without libtorch, if that was built.
    pub(crate) fn small_registry(&self, home: &Path, port: u16, database: &Path, artifacts: &Path) -> Option<Command> {
        let mut command = Command::new(&self.control_plane);
        command.current_dir(&self.root);
        self.control_plane.exists().then(|| Self::as_registry(command, home, port, database, artifacts))
    }

    fn as_registry(mut command: Command, home: &Path, port: u16, database: &Path, artifacts: &Path) -> Command {
        command.arg("--home").arg(home).args(["registry", "--listen", &format!("127.0.0.1:{port}")]);
        command.arg("--database").arg(format!("sqlite://{}", database.display()));
        command.arg("--artifacts").arg(artifacts);
        command
    }

    /// The program that is measured.
    pub(crate) fn program(&self) -> &Path {
        &self.safari
    }

    /// Any command on a home.
    pub(crate) fn any(&self, home: &Path) -> Command {
        let mut command = self.safari();
        command.arg("--home").arg(home);
        command
    }

    /// `safari serve` that keeps no answers, with plain models, which lie in `tiny`, beside the one that is shipped.
    pub(crate) fn serve(&self, home: &Path, port: u16, tiny: &Path) -> Command {
        let mut command = self.safari();
        command.arg("--home").arg(home).args(["--set", "serve.cache_bytes=0", "--set", "log.level=warn", "--set"]);
        let (plain, length) = (tiny.join("lookup"), tiny.join("length"));
        command.arg(format!("serve.models=plain={}, length={}", plain.display(), length.display()));
        command.args(["serve", "--listen", &format!("127.0.0.1:{port}")]);
        command
    }

    /// `safari` on a home whose backups are in `backups`.
    pub(crate) fn backup(&self, home: &Path, backups: &Path, words: &[&str]) -> Command {
        let mut command = self.safari();
        command.arg("--home").arg(home).env("SAFARI_BACKUP_URL", backups).args(words);
        command
    }

    /// The bare loop over `source`.
    pub(crate) fn bare_loop(&self, source: &Path) -> Command {
        let mut command = Command::new(&self.bench);
        command.current_dir(&self.root).arg("bare").arg(source);
        command
    }

    /// The bare server on a port.
    pub(crate) fn bare_server(&self, port: u16) -> Command {
        let mut command = Command::new(&self.bench);
        command.current_dir(&self.root).arg("bare-server").arg(port.to_string());
        command
    }

    /// Everything is compared on the processor, and with the settings that Safari ships.
    fn safari(&self) -> Command {
        let mut command = Command::new(&self.safari);
        command.current_dir(&self.root).args(["--set", "detector.device=cpu"]);
        command
    }
}
