//! The program as people use it: runs over real photographs and over broken files, killed, repeated, and on S3.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::shaky_http::{Fault, ShakyHttp};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("WORKSPACE_ROOT")).canonicalize().unwrap()
}

fn safari(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_safari"));
    command.current_dir(root()).arg("--home").arg(home).args(args).stdin(Stdio::null());
    command.env("SAFARI_RUN_SHARD_SIZE", "6");
    command
}

fn detect(home: &Path, source: &str) -> Command {
    safari(home, &["run", "dags/detect.yaml", "--param", &format!("source={source}")])
}

fn detect_with(home: &Path, source: &str, more: &[&str]) -> Command {
    let mut command = detect(home, source);
    command.args(more);
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

/// Rows of a query as JSON.
fn sql(home: &Path, query: &str) -> Vec<Value> {
    let output = safari(home, &["sql", query, "--format", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(home: &Path, query: &str) -> i64 {
    sql(home, &format!("select ({query}) as n"))[0]["n"].as_i64().unwrap()
}

fn samples() -> String {
    root().join("data-samples").display().to_string()
}

#[test]
fn the_demo_finds_animals_and_a_second_run_has_nothing_to_do() {
    let home = tempfile::tempdir().unwrap();
    let first = succeed(detect(home.path(), &samples()));
    assert!(first.contains("giraffe") && first.contains("polar bear"), "{first}");
    let media = number(home.path(), "select count(*) from media");
    assert!(media >= 30, "{media} media");

    let page = first.lines().find_map(|line| line.trim().strip_prefix("report    ")).unwrap();
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("data:image/jpeg;base64,") && page.contains("Giraffa"));
    assert!(!page.contains("http://") && !page.contains("https://"), "the page stands alone");

    let second = succeed(detect(home.path(), &samples()));
    assert!(second.contains(&format!("{media} unchanged")), "{second}");
    assert_eq!(number(home.path(), "select count(*) from media"), media);
}

#[test]
fn content_that_is_known_is_not_looked_at_again_under_another_name() {
    let (home, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let giraffe = root().join("data-samples/savanna-waterhole/giraffe.jpg");
    let first = source.path().join("giraffe.jpg");
    fs::copy(&giraffe, &first).unwrap();
    let path = source.path().display().to_string();
    succeed(detect(home.path(), &path));
    let boxes = number(home.path(), "select count(*) from observations");
    assert_eq!(boxes, 2);

    // Touched: another time, the same bytes.
    let later = std::time::SystemTime::now() + Duration::from_secs(60);
    fs::File::options().append(true).open(&first).unwrap().set_modified(later).unwrap();
    let said = succeed(detect(home.path(), &path));
    assert!(said.contains("0 media to look at, 1 unchanged"), "{said}");

    // Sorted into a folder: a row of its own with the same boxes, and no model was loaded for it.
    fs::create_dir(source.path().join("north")).unwrap();
    fs::rename(&first, source.path().join("north/IMG_1.jpg")).unwrap();
    let said = succeed(detect(home.path(), &path));
    assert!(said.contains("1 known under another name"), "{said}");
    assert!(!said.contains("model loaded"), "{said}");
    let moved = "select count(*) from observations where deployment = 'north' and species = 'giraffe'";
    assert_eq!(number(home.path(), moved), boxes);
    assert_eq!(number(home.path(), "select count(distinct media_id) from media"), 1);

    // Asked for, it is looked at again.
    let said = succeed(detect_with(home.path(), &path, &["--param", "force=true"]));
    assert!(said.contains("model loaded"), "{said}");
}

#[test]
fn the_burst_has_the_real_gaps_and_the_wrong_clock_is_flagged() {
    let home = tempfile::tempdir().unwrap();
    succeed(detect(home.path(), &samples()));
    let times = sql(
        home.path(),
        "select cast(date_part('epoch', captured_at) as double) as t from media where uri like '%burst-jaguar%' order by captured_at",
    );
    let times: Vec<f64> = times.iter().map(|row| row["t"].as_f64().unwrap()).collect();
    let gaps: Vec<f64> = times.windows(2).map(|pair| ((pair[1] - pair[0]) * 100.0).round() / 100.0).collect();
    assert_eq!(gaps, [0.8, 1.5, 4.0, 12.25, 3.0]);
    assert_eq!(number(home.path(), "select count(distinct burst_id) from media where uri like '%burst-jaguar%'"), 1);
    let wrong = sql(home.path(), "select uri from media where clock_wrong");
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0]["uri"].as_str().unwrap().ends_with("moose-wrong-clock.jpg"));
}

#[test]
fn broken_files_become_rows_and_the_run_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let source = root().join("e2e/assets/bad-media");
    let said = succeed(detect(home.path(), &source.display().to_string()));
    assert!(said.contains("succeeded with failures"), "{said}");
    for file in [
        "truncated.jpg",
        "corrupt.jpg",
        "bomb.png",
        "bomb.jpg",
        "empty.jpg",
        "notes.jpg",
        "zeros.jpg",
        "cut.png",
        "broken.mp4",
    ] {
        let query = format!("select failure, category from media where uri like '%/{file}'");
        let rows = sql(home.path(), &query);
        assert_eq!(rows.len(), 1, "{file}");
        assert!(rows[0]["failure"].as_str().is_some_and(|failure| failure.len() > 10), "{file}: {}", rows[0]);
    }
    for file in ["misnamed.jpg", "good-small.png", "good-small.webp", "good-small.tif", "orientation-6.jpg"] {
        let query = format!("select count(*) from media where uri like '%/{file}' and failure is null");
        assert_eq!(number(home.path(), &query), 1, "{file}");
    }
    let turned = "select count(distinct width || 'x' || height) from media where uri like '%/orientation-%'";
    assert_eq!(number(home.path(), turned), 1, "all orientations are turned upright");
}

#[test]
fn killed_at_any_moment_it_goes_on_and_no_row_is_there_twice() {
    let home = tempfile::tempdir().unwrap();
    let mut kills = 0;
    for wait in [250, 500, 700, 900, 1100, 1300, 1500] {
        let mut child = detect(home.path(), &samples()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        // `kill` is SIGKILL. A run that was quicker has ended by itself.
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        child.wait().unwrap();
    }
    assert!(kills > 0, "no run was killed");
    succeed(detect(home.path(), &samples()));
    let twice = "select count(*) from (select uri from media group by uri having count(*) > 1)";
    assert_eq!(number(home.path(), twice), 0);
    let twice = "select count(*) from (select detection_id from detections group by detection_id having count(*) > 1)";
    assert_eq!(number(home.path(), twice), 0);

    let whole = tempfile::tempdir().unwrap();
    succeed(detect(whole.path(), &samples()));
    for count in ["select count(*) from media", "select count(*) from detections"] {
        assert_eq!(number(home.path(), count), number(whole.path(), count), "{count}");
    }
}

#[test]
fn mistakes_end_with_one_clear_message() {
    let home = tempfile::tempdir().unwrap();
    let fails = |mut command: Command, words: &[&str]| {
        let output = command.output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for word in words {
            assert!(said.contains(word), "'{word}' is not in: {said}");
        }
    };
    fails(detect(home.path(), "/no/such/folder"), &["/no/such/folder"]);
    let empty = tempfile::tempdir().unwrap();
    fails(detect(home.path(), &empty.path().display().to_string()), &["no photographs or videos"]);
    fails(safari(home.path(), &["run", "dags/detect.yaml"]), &["source"]);
    fails(safari(home.path(), &["run", "dags/detect.yaml", "--param", "sorce=x"]), &["sorce", "source"]);
    fails(safari(home.path(), &["sql", "select speces from detections"]), &["species"]);
    fails(safari(home.path(), &["detect", "/no/such.jpg"]), &["/no/such.jpg"]);
    let mut no_model = detect(home.path(), &samples());
    no_model.env("MODEL_PATH", "/no/such/model");
    fails(no_model, &["/no/such/model", "--model"]);
    let broken = empty.path().join("broken.yaml");
    fs::write(&broken, "dag: x\ntasks:\n  a: {job: infr, with: {shard: 1}}\n").unwrap();
    fails(safari(home.path(), &["run", &broken.display().to_string()]), &["broken.yaml:3", "infer"]);
}

#[test]
fn the_export_and_the_quick_look_agree_with_the_tables() {
    let home = tempfile::tempdir().unwrap();
    succeed(detect(home.path(), &samples()));
    let file = home.path().join("out.json");
    let file_text = file.display().to_string();
    succeed(safari(
        home.path(),
        &["export", "--format", "megadetector", "--output", &file_text, "--relative-to", &samples()],
    ));
    let exported: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(exported["info"]["format_version"], "1.6");
    let images = exported["images"].as_array().unwrap();
    assert_eq!(images.len() as i64, number(home.path(), "select count(*) from media"));
    let boxes: usize = images.iter().filter_map(|image| image["detections"].as_array()).map(Vec::len).sum();
    assert_eq!(boxes as i64, number(home.path(), "select count(*) from detections"));

    let drawn = home.path().join("drawn");
    let picture = "data-samples/savanna-waterhole/giraffe.jpg";
    let output = safari(home.path(), &["detect", picture, "--json", "--annotate", &drawn.display().to_string()])
        .output()
        .unwrap();
    let look: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(look["detections"][0]["species"], "giraffe");
    assert!(fs::metadata(drawn.join("giraffe.jpg")).unwrap().len() > 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_a_source_and_its_faults_are_told() {
    let server = e2e::seaweedfs::Server::start().await.unwrap();
    let store = server.bucket("camera-traps").await.unwrap();
    for name in ["giraffe.jpg"] {
        let bytes = fs::read(root().join("data-samples/savanna-waterhole").join(name)).unwrap();
        store.put(&format!("2026/savanna/{name}"), bytes.into()).await.unwrap();
    }
    let home = tempfile::tempdir().unwrap();
    let mut command = detect(home.path(), "s3://camera-traps/2026");
    command.envs(server.variables());
    succeed(command);
    let seen = "select count(*) from observations where uri = 's3://camera-traps/2026/savanna/giraffe.jpg' and species = 'giraffe'";
    assert_eq!(number(home.path(), seen), 2);

    let mut missing = detect(home.path(), "s3://no-such-bucket/x");
    missing.envs(server.variables());
    let said = text(&missing.output().unwrap());
    assert!(said.contains("no-such-bucket"), "{said}");
    let mut denied = detect(home.path(), "s3://camera-traps/2026");
    denied.envs(server.variables()).env("AWS_SECRET_ACCESS_KEY", "wrong");
    let said = text(&denied.output().unwrap());
    assert!(said.contains("AWS_SECRET_ACCESS_KEY"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn photographs_of_a_busy_server_are_seen_whole_and_their_rows_are_there_once() {
    let server = e2e::seaweedfs::Server::start().await.unwrap();
    let bucket = server.bucket("traps").await.unwrap();
    for photo in ["farmyard/cow.jpg", "garden/hedgehog.jpg", "prairie/horse.jpg"] {
        bucket.put(photo, fs::read(root().join("data-samples").join(photo)).unwrap().into()).await.unwrap();
    }
    // Each photograph breaks off, then is refused, then comes; of all else every third request is refused once.
    let others = AtomicUsize::new(0);
    let proxy = ShakyHttp::start(server.endpoint(), move |request| {
        let is_photo = request.method == "GET" && request.target.contains(".jpg");
        match request.before {
            0 if is_photo => Some(Fault::BrokenOff),
            1 if is_photo => Some(Fault::Busy),
            0 => others.fetch_add(1, Ordering::SeqCst).is_multiple_of(3).then_some(Fault::Busy),
            _ => None,
        }
    })
    .unwrap();
    let home = tempfile::tempdir().unwrap();
    let lake = ["--set", "lake.url=s3://traps-tables/lake"];
    server.bucket("traps-tables").await.unwrap();
    let mut command = detect_with(home.path(), "s3://traps", &lake);
    command.envs(server.variables()).env("AWS_ENDPOINT_URL", proxy.endpoint());
    succeed(command);
    let query = "select count(*), count(distinct uri), count(failure), \
                 (select count(*) - count(distinct detection_id) from detections) from media";
    let mut command = safari(home.path(), &["sql", query, "--format", "csv"]);
    command.args(lake).envs(server.variables());
    let counted = succeed(command);
    assert_eq!(counted.lines().nth(1), Some("3,3,0,0"), "{counted}");
    let (busy, broken) = (proxy.count(Fault::Busy), proxy.count(Fault::BrokenOff));
    assert!(broken >= 3 && busy >= 6, "{busy} refused, {broken} broken off");
}
