//! A PostgreSQL server with all its databases, as files and as the log of every change, by pgBackRest: any moment comes back.
//!
//! pgBackRest copies the server's files and is given each piece of its log (`archive_command`). It runs on the server's machine, as
//! the owner of the server's files, and keeps its own format below `backup.url`. This module writes its configuration,
//! starts it, and puts what it restores in the place of the old files at the end.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use chrono::{DateTime, Utc};
use platform::config::Config;
use platform::database::Address;
use platform::object_store::{AwsAccess, Location, aws_credentials};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use url::Url;

use crate::{Error, Result};

const PROGRAM: &str = "pgbackrest";

/// The settings' name for what is backed up, as pgBackRest calls it.
const STANZA: &str = "safari";

/// A piece of the log is archived after so many seconds though it is not full: what may be lost with the server's disk.
pub const ARCHIVE_TIMEOUT: u32 = 4;

/// What the restored server calls when it has replayed its log, in the folder of its files. Its checkpointer, which gives pieces of
/// the log away in time, looks at `archive_timeout` before the recovery is declared over, and then sleeps until the next
/// checkpoint, five minutes by default: seen with PostgreSQL 15. A signal to read its settings again wakes it.
const RECOVERED: &str = "(sleep 2; kill -HUP $(head -n 1 postmaster.pid)) </dev/null >/dev/null 2>&1 &";

/// Processes of pgBackRest at once.
const PROCESSES: usize = 4;

/// The variables from which pgBackRest takes the keys of a bucket: access key, secret key, session token.
const KEYS: [&str; 3] = ["PGBACKREST_REPO1_S3_KEY", "PGBACKREST_REPO1_S3_KEY_SECRET", "PGBACKREST_REPO1_S3_TOKEN"];

/// A server whose files are on this machine.
#[derive(Debug, Clone)]
pub struct Cluster {
    data: PathBuf,
    socket: PathBuf,
    url: String,
    home: PathBuf,
    place: Location,
    keep_days: u32,
    bucket: Option<Bucket>,
}

/// How the bucket of a place is reached.
#[derive(Debug, Clone)]
struct Bucket {
    access: AwsAccess,
    /// Certificates that are trusted instead of the system's.
    certificates: Option<PathBuf>,
}

/// How much of the files is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All.
    Full,
    /// What has changed since the last full one.
    Diff,
    /// What has changed since the last one.
    Incr,
}

impl Extent {
    fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Diff => "diff",
            Self::Incr => "incr",
        }
    }
}

/// A copy of the files that pgBackRest has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copy {
    /// Its name.
    pub label: String,
    /// `full`, `diff` or `incr`.
    pub extent: String,
    /// When it was begun.
    pub began_at: DateTime<Utc>,
    /// From when on moments can be restored with it.
    pub ended_at: DateTime<Utc>,
    /// Bytes of the server's files.
    pub bytes: u64,
    /// Whether pgBackRest found an error in it.
    pub damaged: bool,
}

impl Cluster {
    /// The server of the state's database, whose files are in `backup.postgres_data`.
    ///
    /// # Errors
    /// [`Error::NoCluster`] if the settings name none.
    pub fn of(config: &Config) -> Result<Self> {
        let (Some(data), Address::Postgres(url)) = (&config.backup.postgres_data, config.state_address()) else {
            return Err(Error::NoCluster);
        };
        Ok(Self {
            data: absolute(data)?,
            socket: config.backup.postgres_socket.clone(),
            url,
            home: absolute(&config.home)?,
            place: Location::parse(&config.backup_url())?.join("postgres"),
            keep_days: config.backup.keep_days,
            bucket: None,
        })
    }

    /// The same with access to its bucket of the caller's own, not that of the environment. `certificates`: a file of those
    /// that are trusted instead of the system's.
    #[must_use]
    pub fn with_access(mut self, access: AwsAccess, certificates: Option<PathBuf>) -> Self {
        self.bucket = Some(Bucket { access, certificates });
        self
    }

    /// Writes pgBackRest's configuration and makes its place. Gives the lines that the server's configuration needs.
    ///
    /// # Errors
    /// [`Error::Program`] when pgBackRest is missing or refuses, [`Error::InsecureBucket`] for a bucket without TLS.
    pub async fn set_up(&self) -> Result<Vec<String>> {
        self.configure().await?;
        self.run(&["stanza-create"]).await?;
        Ok(vec![
            "wal_level = replica".to_owned(),
            "archive_mode = on".to_owned(),
            format!("archive_command = '{}'", self.archive_command()),
            format!("archive_timeout = {ARCHIVE_TIMEOUT}"),
        ])
    }

    /// What the server calls with each piece of its log.
    pub fn archive_command(&self) -> String {
        format!("{} archive-push %p", self.called())
    }

    /// Copies the server's files while it runs, and removes copies and log that `backup.keep_days` do not keep: pgBackRest
    /// removes neither the last full copy nor log that a copy needs.
    ///
    /// # Errors
    /// [`Error::Program`] with pgBackRest's words.
    pub async fn back_up(&self, extent: Extent) -> Result<Copy> {
        let kind = format!("--type={}", extent.name());
        self.run(&[&kind, "backup"]).await?;
        let newest = self.list().await?.pop();
        newest.ok_or_else(|| Error::Program { program: PROGRAM, reason: "lists no copy after it made one".to_owned() })
    }

    /// All copies, the oldest first.
    ///
    /// # Errors
    /// [`Error::Program`] with pgBackRest's words.
    pub async fn list(&self) -> Result<Vec<Copy>> {
        let output = self.run(&["--output=json", "info"]).await?;
        let stanzas: Vec<Stanza> = serde_json::from_slice(&output.stdout).map_err(|error| Error::Program {
            program: PROGRAM,
            reason: format!("gives an answer that this version does not know: {error}"),
        })?;
        let time = |seconds| DateTime::from_timestamp(seconds, 0).unwrap_or_default();
        let copies = stanzas.into_iter().flat_map(|stanza| stanza.backup).map(|copy| Copy {
            label: copy.label,
            extent: copy.kind,
            began_at: time(copy.timestamp.start),
            ended_at: time(copy.timestamp.stop),
            bytes: copy.info.size,
            damaged: copy.error.unwrap_or(false),
        });
        Ok(copies.collect())
    }

    /// Restores the server's files as they were at `at`, or at the end of the archived log, beside the old ones, and gives them
    /// their name at the end. The server must be stopped; when it is started it replays its log up to that moment.
    ///
    /// # Errors
    /// [`Error::ClusterRuns`], [`Error::WouldReplace`] without `force`, [`Error::Program`]: then the old files are as they
    /// were.
    pub async fn restore(&self, at: Option<DateTime<Utc>>, force: bool) -> Result<()> {
        self.check_stopped()?;
        let is_there = std::fs::read_dir(&self.data).is_ok_and(|mut entries| entries.next().is_some());
        if is_there && !force {
            return Err(Error::WouldReplace { targets: self.data.display().to_string() });
        }
        let name = self.data.file_name().unwrap_or_default().to_string_lossy();
        let ready = self.data.with_file_name(format!("{name}.restore"));
        remove(&ready)?;
        std::fs::create_dir_all(&ready).map_err(Error::file("write", &ready))?;
        std::fs::set_permissions(&ready, Permissions::from_mode(0o700)).map_err(Error::file("write", &ready))?;
        self.give_to_owner(&ready)?;
        let fetched = self.fetch(&ready, at).await;
        if let Err(error) = fetched {
            remove(&ready)?;
            return Err(error);
        }
        // The server may have been started meanwhile.
        self.check_stopped()?;
        let flags = if self.data.exists() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        renameat_with(CWD, &ready, CWD, &self.data, flags)
            .map_err(|error| Error::file("rename", &ready)(error.into()))?;
        remove(&ready)
    }

    async fn configure(&self) -> Result<()> {
        let text = self.configuration(self.bucket().await?.as_ref())?;
        std::fs::create_dir_all(&self.home).map_err(Error::file("write", &self.home))?;
        let file = self.configuration_file();
        std::fs::write(&file, text).map_err(Error::file("write", &file))?;
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).map_err(Error::file("write", &file))?;
        self.give_to_owner(&file)?;
        let mut folders = vec![self.locks()];
        if let Location::Local(place) = &self.place {
            folders.push(place.clone());
        }
        for folder in folders {
            std::fs::create_dir_all(&folder).map_err(Error::file("write", &folder))?;
            self.give_to_owner(&folder)?;
        }
        Ok(())
    }

    /// How the bucket is reached; none for a folder.
    async fn bucket(&self) -> Result<Option<Bucket>> {
        match (&self.place, &self.bucket) {
            (Location::Local(_), _) => Ok(None),
            (Location::S3 { .. }, Some(given)) => Ok(Some(given.clone())),
            // The variable that the libraries of TLS ask, those of Safari and of pgBackRest.
            (Location::S3 { .. }, None) => Ok(Some(Bucket {
                access: aws_credentials().await?,
                certificates: std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from),
            })),
        }
    }

    async fn fetch(&self, ready: &Path, at: Option<DateTime<Utc>>) -> Result<()> {
        let path = format!("--pg1-path={}", ready.display());
        // Without this it would look for the log in the folder that the files have only now.
        let command = format!("--recovery-option=restore_command={} archive-get %f \"%p\"", self.called());
        let recovered = format!("--recovery-option=recovery_end_command={RECOVERED}");
        let target = at.map(|at| format!("--target={}", at.format("%Y-%m-%d %H:%M:%S%.6f+00")));
        let mut arguments = vec![path.as_str(), command.as_str(), recovered.as_str()];
        if let Some(target) = &target {
            arguments.extend(["--type=time", target, "--target-action=promote"]);
        }
        arguments.push("restore");
        self.run(&arguments).await.map(drop)
    }

    fn check_stopped(&self) -> Result<()> {
        let file = self.data.join("postmaster.pid");
        let Ok(text) = std::fs::read_to_string(&file) else { return Ok(()) };
        let process = text.lines().next().and_then(|line| line.trim().parse::<u32>().ok());
        match process {
            Some(process) if Path::new(&format!("/proc/{process}")).exists() => {
                Err(Error::ClusterRuns { data: self.data.clone(), process })
            }
            _ => Ok(()),
        }
    }

    fn configuration_file(&self) -> PathBuf {
        self.home.join("pgbackrest.conf")
    }

    fn locks(&self) -> PathBuf {
        self.home.join("pgbackrest-locks")
    }

    fn called(&self) -> String {
        format!("{PROGRAM} --config={} --stanza={STANZA}", self.configuration_file().display())
    }

    /// Its file. Keys of a bucket are not in it: pgBackRest takes them from [`KEYS`], which the server needs too when it
    /// archives.
    fn configuration(&self, bucket: Option<&Bucket>) -> Result<String> {
        let url = Url::parse(&self.url).ok();
        let port = url.as_ref().and_then(Url::port).unwrap_or(5432);
        let user = url.as_ref().map(|url| url.username().to_owned()).filter(|user| !user.is_empty());
        let processes = std::thread::available_parallelism().map_or(1, usize::from).min(PROCESSES);
        let mut lines = vec![
            "[global]".to_owned(),
            format!("repo1-retention-full-type=time\nrepo1-retention-full={}", self.keep_days),
            "compress-type=zst\ncompress-level=1\nstart-fast=y".to_owned(),
            format!("process-max={processes}\nlock-path={}", self.locks().display()),
            "log-level-file=off\nlog-level-console=error\nlog-level-stderr=error".to_owned(),
        ];
        match &self.place {
            Location::Local(path) => lines.push(format!("repo1-type=posix\nrepo1-path={}", path.display())),
            Location::S3 { bucket: name, prefix } => {
                lines.push(format!("repo1-type=s3\nrepo1-path=/{prefix}\nrepo1-s3-bucket={name}"));
                if let Some(Bucket { access, certificates }) = bucket {
                    lines.push(format!("repo1-s3-region={}", access.region()));
                    lines.push(format!("repo1-s3-endpoint={}\nrepo1-s3-uri-style=path", endpoint(access)?));
                    let file = certificates.as_deref().map(absolute).transpose()?;
                    lines.extend(file.map(|file| format!("repo1-storage-ca-file={}", file.display())));
                }
            }
        }
        lines.push(format!("[{STANZA}]\npg1-path={}\npg1-port={port}", self.data.display()));
        lines.push(format!("pg1-socket-path={}", self.socket.display()));
        lines.extend(user.map(|user| format!("pg1-user={user}\npg1-database=postgres")));
        Ok(lines.join("\n") + "\n")
    }

    /// Runs pgBackRest as the owner of the server's files.
    async fn run(&self, arguments: &[&str]) -> Result<Output> {
        // The machine that had the home may be lost.
        if !self.configuration_file().is_file() {
            self.configure().await?;
        }
        let mut command = Command::new(PROGRAM);
        command.arg(format!("--config={}", self.configuration_file().display())).arg(format!("--stanza={STANZA}"));
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).current_dir("/");
        let password = Url::parse(&self.url).ok().and_then(|url| url.password().map(str::to_owned));
        if let Some(password) = password {
            let decoded = percent_encoding::percent_decode_str(&password).decode_utf8_lossy().into_owned();
            command.env("PGPASSWORD", decoded);
        }
        if let Some(bucket) = self.bucket().await?
            && std::env::var_os(KEYS[0]).is_none()
            && let Some(keys) = bucket.access.credentials().await?
        {
            command.env(KEYS[0], keys.access_key_id()).env(KEYS[1], keys.secret_access_key());
            command.envs(keys.session_token().map(|token| (KEYS[2], token)));
        }
        if let Some((user, group)) = self.other_owner() {
            command.uid(user).gid(group);
        }
        let output = command.output().await.map_err(|error| Error::Program {
            program: PROGRAM,
            reason: match error.kind() {
                std::io::ErrorKind::NotFound => "is not installed: install Debian's package pgbackrest".to_owned(),
                _ => format!("cannot be run: {error}"),
            },
        })?;
        if output.status.success() {
            return Ok(output);
        }
        let said = [output.stderr.as_slice(), output.stdout.as_slice()].concat();
        let said = String::from_utf8_lossy(&said);
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Err(Error::Program { program: PROGRAM, reason: format!("failed: {}", said.join("; ")) })
    }

    fn give_to_owner(&self, path: &Path) -> Result<()> {
        let Some((user, group)) = self.other_owner() else { return Ok(()) };
        std::os::unix::fs::chown(path, Some(user), Some(group)).map_err(Error::file("write", path))
    }

    /// The owner of the server's files, or of the folder above where they are gone, if this process is root and they are another.
    fn other_owner(&self) -> Option<(u32, u32)> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let metadata = self.data.ancestors().find_map(|path| std::fs::metadata(path).ok())?;
        (metadata.uid() != 0).then(|| (metadata.uid(), metadata.gid()))
    }
}

#[derive(Deserialize)]
struct Stanza {
    #[serde(default)]
    backup: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    label: String,
    #[serde(rename = "type")]
    kind: String,
    timestamp: Times,
    info: Sizes,
    #[serde(default)]
    error: Option<bool>,
}

#[derive(Deserialize)]
struct Times {
    start: i64,
    stop: i64,
}

#[derive(Deserialize)]
struct Sizes {
    size: u64,
}

/// The address of a bucket's server as pgBackRest has it: without the scheme, as it only speaks TLS.
fn endpoint(access: &AwsAccess) -> Result<String> {
    let Some(endpoint) = access.endpoint() else { return Ok(format!("s3.{}.amazonaws.com", access.region())) };
    match endpoint.strip_prefix("https://") {
        Some(address) => Ok(address.trim_end_matches('/').to_owned()),
        None => Err(Error::InsecureBucket { endpoint: endpoint.to_owned() }),
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::file("read", path))
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("delete", folder)(error)),
        _ => Ok(()),
    }
}
