//! Backups and their restoration beside the bare programs: `pg_dump` and `pg_restore` on a file and through `curl` on a bucket,
//! `cp` of files, pgBackRest.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::postgres::Server;
use e2e::seaweedfs;
use platform::database::{Address, Database};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::runtime::Runtime;

use crate::error::{Error, Result};
use crate::process;
use crate::results::{Row, median};
use crate::workplace::Workplace;

const MIB: f64 = 1_048_576.0;

/// Bytes of a file.
const FILE: usize = 16 << 20;

/// Rows of a database: more than a gibibyte, so that a restoration takes longer than the start of programs.
const ROWS: usize = 4_800_000;

/// What the project asks of rates.
const LEAST: f64 = 0.9;

/// Measures the section.
pub(crate) fn run(place: &Workplace) -> Result<Vec<Row>> {
    let rounds = place.pick(3, 1);
    let runtime = Runtime::new().map_err(Error::io("the runtime"))?;
    let mut rows = files(place, &runtime, rounds)?;
    rows.extend(databases(place, &runtime, rounds)?);
    rows.extend(cluster(place, &runtime, rounds)?);
    rows.push(memory(place)?);
    Ok(rows)
}

/// Files of the registry that do not get smaller, to a folder and to a bucket, and back to where nothing is.
fn files(place: &Workplace, runtime: &Runtime, rounds: usize) -> Result<Vec<Row>> {
    let note =
        "every piece is hashed and read back, and all is flushed to the disk; nothing is there from a backup before";
    let to_folder = Peer {
        place: "a folder",
        backup: "cp -r home/artifacts copy && sync -f copy",
        back: "cp -r copy back && sync -f back",
    };
    // A copy that nobody looks at again shows what that costs; it is no goal.
    let (rates, _) = file_rates(place, rounds, &to_folder, None)?;
    let mut rows = Vec::from(rates.rows("files of models", "`cp -r` and `sync`", note, None));
    let store = runtime.block_on(seaweedfs::Server::start()).map_err(failed)?;
    runtime.block_on(store.bucket("backups")).map_err(failed)?;
    let to_bucket = Peer {
        place: "a bucket",
        backup: "cd home/artifacts/1 && ls | xargs -P 8 -I NAME curl -fsS \
            --aws-sigv4 aws:amz:us-east-1:s3 -u \"$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY\" \
            -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' -T NAME \"$AWS_ENDPOINT_URL/backups/peer/NAME\"",
        back: "mkdir back && cd back && seq 0 $((FILES - 1)) | xargs -P 8 -I NAME curl -fsS \
            --aws-sigv4 aws:amz:us-east-1:s3 -u \"$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY\" \
            -o NAME.pt \"$AWS_ENDPOINT_URL/backups/peer/NAME.pt\" && sync -f .",
    };
    let (rates, checked) = file_rates(place, rounds, &to_bucket, Some((&store, CHECK)))?;
    let what = "files of models (bucket)";
    let [plain, back] = rates.rows(what, "`curl` of each file, eight at once", note, None);
    let numbers = (median(&rates.ours), median(&checked));
    let against = "the same, each then read back and compared";
    rows.extend([
        plain,
        Row::compare(&format!("backup of {what}"), against, "MiB/s", numbers, true).at_least(LEAST).note(note),
        back.at_least(LEAST),
    ]);
    Ok(rows)
}

/// Reads what is in the bucket and compares it with the files.
const CHECK: &str = "cd home/artifacts/1 && ls | xargs -P 8 -I NAME bash -o pipefail -c 'curl -fsS \
    --aws-sigv4 aws:amz:us-east-1:s3 -u \"$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY\" \
    \"$AWS_ENDPOINT_URL/backups/peer/NAME\" | cmp - NAME'";

/// Rates, and the peer's with the command that checks what it wrote.
fn file_rates(
    place: &Workplace,
    rounds: usize,
    peer: &Peer,
    bucket: Option<(&seaweedfs::Server, &str)>,
) -> Result<(Rates, Vec<f64>)> {
    let size = place.pick(64, 4);
    let mib = (size * FILE) as f64 / MIB;
    let work = Work::new()?;
    let (mut rates, mut checked) = (Rates::default(), Vec::new());
    for round in 1..=rounds {
        eprintln!("  {size} files to {}, round {round} of {rounds}", peer.place);
        work.remove(&["backups", "copy", "back", "home"])?;
        work.fill(size)?;
        let target = bucket.map(|(store, _)| (format!("s3://backups/round-{round}"), store));
        let ours = |words: &[&str]| process::time(in_bucket(work.safari(place, words), target.as_ref()));
        let others = |text: &str| {
            let mut command = in_bucket(work.shell(text), target.as_ref());
            command.env("FILES", size.to_string());
            process::time(command)
        };
        rates.ours.push(mib / ours(&["backup", "models"])?.seconds);
        let seconds = others(peer.backup)?.seconds;
        rates.peer.push(mib / seconds);
        if let Some((_, check)) = bucket {
            checked.push(mib / (seconds + others(check)?.seconds));
        }
        work.remove(&["home/artifacts"])?;
        rates.ours_back.push(mib / ours(&["restore", "models"])?.seconds);
        rates.peer_back.push(mib / others(peer.back)?.seconds);
    }
    Ok((rates, checked))
}

/// A command with a place of backups in a bucket, if there is one.
fn in_bucket(mut command: Command, bucket: Option<&(String, &seaweedfs::Server)>) -> Command {
    if let Some((place, store)) = bucket {
        command.envs(store.variables()).env("SAFARI_BACKUP_URL", place);
    }
    command
}

/// A database on a PostgreSQL server, to a folder and to a bucket, and back after it is gone.
fn databases(place: &Workplace, runtime: &Runtime, rounds: usize) -> Result<Vec<Row>> {
    let server = runtime.block_on(Server::start_durable()).map_err(failed)?;
    let url = runtime.block_on(server.database()).map_err(failed)?;
    let bytes = runtime.block_on(fill(&url, place.pick(ROWS, 40_000)))?;
    let what = Loaded { runtime, url: &url, mib: bytes as f64 / MIB };
    let note = "rows of each table are counted as well, before and after";
    let to_folder = Peer {
        place: "a folder",
        backup: "pg_dump --format=custom --compress=1 \"$URL\" | dd of=dump bs=1M conv=fsync status=none",
        back: "psql -qc \"CREATE DATABASE $NAME TEMPLATE template0\" \"$SERVER\" && \
            pg_restore --single-transaction --dbname \"$URL\" dump",
    };
    let rates = database(place, &what, rounds, &to_folder, None)?;
    let against = "`pg_dump` to a file, `pg_restore`";
    let mut rows = Vec::from(rates.rows("a PostgreSQL database", against, note, Some(LEAST)));
    let store = runtime.block_on(seaweedfs::Server::start()).map_err(failed)?;
    runtime.block_on(store.bucket("backups")).map_err(failed)?;
    let to_bucket = Peer {
        place: "a bucket",
        backup: "pg_dump --format=custom --compress=1 \"$URL\" | \
            curl -fsS --aws-sigv4 aws:amz:us-east-1:s3 -u \"$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY\" \
            -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' -T - \"$AWS_ENDPOINT_URL/backups/peer/dump\"",
        back: "psql -qc \"CREATE DATABASE $NAME TEMPLATE template0\" \"$SERVER\" && \
            curl -fsS --aws-sigv4 aws:amz:us-east-1:s3 -u \"$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY\" \
            \"$AWS_ENDPOINT_URL/backups/peer/dump\" | pg_restore --single-transaction --dbname \"$URL\"",
    };
    let rates = database(place, &what, rounds, &to_bucket, Some(&store))?;
    let against = "`pg_dump` through `curl` to the bucket, and back to `pg_restore`";
    rows.extend(rates.rows("a PostgreSQL database (bucket)", against, note, Some(LEAST)));
    Ok(rows)
}

/// A database with rows.
struct Loaded<'a> {
    runtime: &'a Runtime,
    url: &'a str,
    mib: f64,
}

impl Loaded<'_> {
    /// The URL of the server's own database, and the name of this one.
    fn server(&self) -> (String, &str) {
        let (server, name) = self.url.rsplit_once('/').unwrap_or((self.url, ""));
        (format!("{server}/postgres"), name)
    }

    /// It is gone.
    fn lose(&self) -> Result<()> {
        let (server, name) = self.server();
        self.runtime.block_on(async {
            let database = Database::open(&Address::Postgres(server)).await?;
            let sql = format!("DROP DATABASE {name} WITH (FORCE)");
            let dropped = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(database.pool()).await;
            database.pool().close().await;
            dropped.map(drop).map_err(|error| Error::failed("postgres", error.to_string()))
        })
    }
}

/// What others do.
struct Peer {
    place: &'static str,
    backup: &'static str,
    back: &'static str,
}

fn database(
    place: &Workplace,
    what: &Loaded<'_>,
    rounds: usize,
    peer: &Peer,
    store: Option<&seaweedfs::Server>,
) -> Result<Rates> {
    let (url, mib) = (what.url, what.mib);
    let (server, name) = what.server();
    let work = Work::new()?;
    let mut rates = Rates::default();
    for round in 1..=rounds {
        eprintln!("  a database of {mib:.0} MiB to {}, round {round} of {rounds}", peer.place);
        work.remove(&["backups"])?;
        // Nothing is there from the round before.
        let bucket = store.map(|store| (format!("s3://backups/round-{round}"), store));
        let ours = |words: &[&str]| {
            let mut command = in_bucket(work.safari(place, words), bucket.as_ref());
            command.env("SAFARI_STATE_URL", url);
            process::time(command)
        };
        let others = |text: &str| {
            let mut command = in_bucket(work.shell(text), bucket.as_ref());
            command.env("URL", url).env("SERVER", &server).env("NAME", name);
            process::time(command)
        };
        rates.ours.push(mib / ours(&["backup", "db"])?.seconds);
        rates.peer.push(mib / others(peer.backup)?.seconds);
        what.lose()?;
        rates.ours_back.push(mib / ours(&["restore", "db"])?.seconds);
        what.lose()?;
        rates.peer_back.push(mib / others(peer.back)?.seconds);
    }
    Ok(rates)
}

/// A whole server as files, to a folder and back after they are gone, by pgBackRest through Safari and by itself with the same settings.
fn cluster(place: &Workplace, runtime: &Runtime, rounds: usize) -> Result<Vec<Row>> {
    if Command::new("pgbackrest").arg("version").output().is_err() {
        eprintln!("  pgbackrest is not installed, and left out: scripts/setup --test installs it");
        return Ok(Vec::new());
    }
    let work = Work::new()?;
    // The server's owner must come by.
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(work.0.path(), open).map_err(Error::io(work.0.path()))?;
    let called = format!("pgbackrest --config={} --stanza=safari", work.path("home/pgbackrest.conf").display());
    let archive = format!("archive_command={called} archive-push %p");
    let settings = ["wal_level=replica", "archive_mode=on", archive.as_str()];
    let mut server = runtime.block_on(Server::start_with(&settings)).map_err(failed)?;
    let url = runtime.block_on(server.database()).map_err(failed)?;
    let mib = runtime.block_on(fill(&url, place.pick(ROWS, 40_000)))? as f64 / MIB;
    let (data, socket) = (server.data(), server.socket());
    let ours = |words: &[&str]| {
        let mut command = work.safari(place, words);
        command.env("SAFARI_STATE_URL", &url).env("SAFARI_BACKUP_POSTGRES_DATA", &data);
        command.env("SAFARI_BACKUP_POSTGRES_SOCKET", &socket);
        process::time(command)
    };
    let alone = |words: &str| -> Result<process::Ended> {
        let mut command = work.shell(&format!("{called} {words}"));
        command.env("PGPASSWORD", password(&url));
        as_owner(&mut command, &socket)?;
        process::time(command)
    };
    ours(&["backup", "cluster", "setup"])?;
    let mut rates = Rates::default();
    for round in 1..=rounds {
        eprintln!("  a server with {mib:.0} MiB, round {round} of {rounds}");
        rates.ours.push(mib / ours(&["backup", "cluster", "run", "--type", "full"])?.seconds);
        rates.peer.push(mib / alone("--type=full backup")?.seconds);
    }
    runtime.block_on(server.stop()).map_err(failed)?;
    for round in 1..=rounds {
        eprintln!("  and back, round {round} of {rounds}");
        // Whoever replaces files removes them as well, which takes as long for everybody.
        fs::remove_dir_all(&data).map_err(Error::io(&data))?;
        rates.ours_back.push(mib / ours(&["backup", "cluster", "restore"])?.seconds);
        work.remove(&["copy"])?;
        let copy = work.path("copy");
        fs::create_dir(&copy).map_err(Error::io(&copy))?;
        let owner = fs::metadata(&socket).map_err(Error::io(&socket))?;
        chown(&copy, Some(owner.uid()), Some(owner.gid())).map_err(Error::io(&copy))?;
        rates.peer_back.push(mib / alone(&format!("--pg1-path={} restore", copy.display()))?.seconds);
    }
    let note = "the same files in the same place; Safari lists the copies afterwards";
    Ok(Vec::from(rates.rows("a PostgreSQL server", "`pgbackrest` alone", note, Some(LEAST))))
}

/// Lets a command run as the owner of a folder, where this process is root.
fn as_owner(command: &mut Command, folder: &Path) -> Result<()> {
    let owner = fs::metadata(folder).map_err(Error::io(folder))?;
    if rustix::process::geteuid().is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    Ok(())
}

/// That of a URL.
fn password(url: &str) -> &str {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let user = authority.split_once('@').map_or("", |(user, _)| user);
    user.split_once(':').map_or("", |(_, password)| password)
}

fn failed(error: e2e::Error) -> Error {
    Error::failed("a server", error.to_string())
}

/// Peak memory over few and over many files; few are more than are read at once.
fn memory(place: &Workplace) -> Result<Row> {
    let (few, many) = (24, place.pick(96, 32));
    let peak = |files: usize| -> Result<f64> {
        let work = Work::new()?;
        work.fill(files)?;
        Ok(process::peak_memory(work.safari(place, &["backup", "models"]))? as f64 / MIB)
    };
    let (peak_of_few, peak_of_many) = (peak(few)?, peak(many)?);
    let what = format!("peak memory of a backup of {} MiB", many * FILE / (1 << 20));
    let mut row = Row::alone(&what, &format!("of {} MiB", few * FILE / (1 << 20)), "MiB", peak_of_many);
    row.peer = Some(peak_of_few);
    row.ratio = Some(peak_of_many / peak_of_few);
    row.goal = Some("at most 1.1 times".to_owned());
    row.met = Some(peak_of_many / peak_of_few <= 1.1);
    Ok(row)
}

/// MiB a second.
#[derive(Default)]
struct Rates {
    ours: Vec<f64>,
    peer: Vec<f64>,
    ours_back: Vec<f64>,
    peer_back: Vec<f64>,
}

impl Rates {
    fn rows(&self, what: &str, against: &str, note: &str, least: Option<f64>) -> [Row; 2] {
        let row = |what: String, ours: &[f64], peer: &[f64]| {
            let row = Row::compare(&what, against, "MiB/s", (median(ours), median(peer)), true).note(note);
            match least {
                Some(least) => row.at_least(least),
                None => row,
            }
        };
        [
            row(format!("backup of {what}"), &self.ours, &self.peer),
            row(format!("restoration of {what}"), &self.ours_back, &self.peer_back),
        ]
    }
}

/// A folder with a home and a place of backups.
struct Work(tempfile::TempDir);

impl Work {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn fill(&self, files: usize) -> Result<()> {
        let folder = self.path("home/artifacts/1");
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let mut noise = ChaCha8Rng::seed_from_u64(7);
        let mut bytes = vec![0; FILE];
        for number in 0..files {
            noise.fill(bytes.as_mut_slice());
            let file = folder.join(format!("{number}.pt"));
            fs::write(&file, &bytes).map_err(Error::io(&file))?;
        }
        Ok(())
    }

    fn remove(&self, names: &[&str]) -> Result<()> {
        for path in names.iter().map(|name| self.path(name)).filter(|path| path.exists()) {
            fs::remove_dir_all(&path).map_err(Error::io(&path))?;
        }
        Ok(())
    }

    fn safari(&self, place: &Workplace, words: &[&str]) -> Command {
        place.backup(&self.path("home"), &self.path("backups"), words)
    }

    fn shell(&self, text: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-o", "pipefail", "-c", text]).current_dir(self.0.path() as &Path);
        command
    }
}

/// Rows of a quarter of a kilobyte with their key; gives the size of the database.
async fn fill(url: &str, rows: usize) -> Result<i64> {
    let database = Database::open(&Address::Postgres(url.to_owned())).await?;
    let failed = |error: sqlx::Error| Error::failed("postgres", error.to_string());
    let sql = format!(
        "CREATE TABLE sighting AS SELECT g AS id, repeat(md5(g::text), 4) || md5((g * 7)::text) AS text, \
         md5((g * 3)::text) AS more FROM generate_series(1, {rows}) g"
    );
    for statement in [sql.as_str(), "ALTER TABLE sighting ADD PRIMARY KEY (id)"] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(database.pool()).await.map_err(failed)?;
    }
    let size = sqlx::query_scalar("SELECT pg_database_size(current_database())").fetch_one(database.pool()).await;
    database.pool().close().await;
    size.map_err(failed)
}
