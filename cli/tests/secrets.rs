//! Secrets by reference: whatever a task does with one, and however it fails, it shows neither in the state nor in logs
//! nor in what the API answers.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use platform::database::{Address, Database};
use serde_json::Value;
use sqlx::AssertSqlSafe;

use common::{safari, said, wait_until};

/// Known when the server starts, with characters that every encoding writes in its own way.
const EARLY: &str = "early-t1ger/+&<\"x";
/// These are set after the server has started, as when secrets are changed under it.
const LATE: &str = "late-l1on-0815";
const LINES: &str = "-----BEGIN KEY-----\nMIIcheetahADANBg\n-----END KEY-----\n";
const API_KEY: &str = "catalogue-lynx-77";
/// In base64, as programs print it and as it is sent for the user and the password of a URL.
const LATE_BASE64: &str = "bGF0ZS1sMW9uLTA4MTU=";
const USER_BASE64: &str = "cmFuZ2VyOmwzb3BhcmQva2V5";

/// Each task fails with words that repeat what it was given, or gives it back as its output.
const DAG: &str = r#"
dag: leaky
alerts:
  - {on: [failure], webhook: "{{ secrets.hook }}"}
  - {on: [failure], command: [sh, -c, 'echo "$0" >&2; exit 3', "{{ secrets.late }}"]}
tasks:
  http_header:
    job: http
    with:
      url: URL/repeat
      method: POST
      headers: {Authorization: "Bearer {{ secrets.late }}"}
      body: {early: "{{ secrets.early }}", lines: "{{ secrets.lines }}"}
  http_cut:
    job: http
    with: {url: URL/cut, headers: {Authorization: "{{ secrets.late }}"}}
  http_url:
    job: http
    with: {url: "{{ secrets.hook }}"}
  http_expect:
    job: http
    with: {url: URL/json, method: POST, body: "{{ secrets.late }}", expect: {json: {/body: other}}}
  http_output:
    job: http
    with: {url: URL/json, method: POST, body: "{{ secrets.late }} {{ secrets.early }}"}
  http_with:
    job: http
    with: {url: URL/json, timeout: "{{ secrets.late }}"}
  command_prints:
    job: command
    with:
      shell: 'echo "$LATE"; printf %s "$LATE" | base64; echo "$LINES" >&2; echo "$EARLY" >&2; exit 7'
      env: {LATE: "{{ secrets.late }}", LINES: "{{ secrets.lines }}", EARLY: "{{ secrets.early }}"}
  command_output:
    job: command
    with: {command: [printf, '{"found": "%s"}', "{{ secrets.late }}"]}
  command_missing:
    job: command
    with: {command: ["/no/{{ secrets.late }}"]}
  sql_statement:
    job: sql
    with: {database: "{{ secrets.database }}", query: "STATEMENT"}
  sql_lake:
    job: sql
    with: {query: 'select "{{ secrets.late }}" from media'}
  wait_for_sql:
    job: wait_for_sql
    with: {database: "{{ secrets.database }}", query: "STATEMENT"}
  wait_for_http:
    job: wait_for_http
    task_timeout: 1s
    with: {http: URL/json, headers: {X-Key: "{{ secrets.late }}"}, json: {/head: x}, interval: 2s}
  wait_for_object:
    job: wait_for_object
    task_timeout: 1s
    with: {object: "/no/{{ secrets.late }}", interval: 2s}
  wait_for_time:
    job: wait_for_time
    with: {time: "{{ secrets.late }}"}
  ingest_source:
    job: ingest
    with: {source: "/no/{{ secrets.late }}"}
  ingest_with:
    job: ingest
    with: {source: /no, force: "{{ secrets.late }}"}
  infer_with:
    job: infer
    with: {shard: "{{ secrets.late }}"}
  report_with:
    job: report
    with: {source: /no, pictures: "{{ secrets.late }}"}
"#;

/// Tasks that succeed; what they give back is masked.
const SUCCEED: [&str; 2] = ["command_output", "http_output"];

/// Tasks whose errors repeat nothing.
const SILENT: [&str; 1] = ["wait_for_time"];

#[test]
fn a_secret_that_a_task_was_given_shows_nowhere_with_state_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}?mode=rwc", folder.path().join("other.db").display());
    let statement = "select * from \\\"{{ secrets.late }}\\\"";
    let state = Address::Sqlite(folder.path().join("home/state.db"));
    secrets_show_nowhere(folder.path(), state, &database, statement);
}

#[test]
fn a_secret_that_a_task_was_given_shows_nowhere_with_state_in_postgresql() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(e2e::postgres::Server::start()).unwrap();
    let (state, database) =
        runtime.block_on(async { (server.database().await.unwrap(), server.database().await.unwrap()) });
    let statement = "select cast('{{ secrets.late }}' as integer)";
    secrets_show_nowhere(folder.path(), Address::Postgres(state), &database, statement);
}

fn secrets_show_nowhere(folder: &Path, state: Address, database: &str, statement: &str) {
    let mirror = Mirror::start();
    let (dags, secrets) = (folder.join("dags"), folder.join("home/secrets"));
    std::fs::create_dir_all(&dags).unwrap();
    std::fs::create_dir_all(&secrets).unwrap();
    let yaml = DAG.replace("URL", &mirror.url).replace("STATEMENT", statement);
    let file = dags.join("leaky.yaml");
    std::fs::write(&file, yaml).unwrap();
    said(folder, &["dag", "check", &file.display().to_string()]);
    let server = Server::start(folder, &state, &mirror.url);
    let host = mirror.url.trim_start_matches("http://");
    let hook = format!("http://ranger:l3opard%2Fkey@{host}/hooks/Serval-0042/keys?key=caracal-99");
    for (name, value) in [("late", LATE), ("lines", LINES), ("hook", &hook), ("database", database)] {
        std::fs::write(secrets.join(name), value).unwrap();
    }

    let run = server.ask_until("the dag is read", "POST", "/api/v1/dags/leaky/runs", |status, run| {
        (status == 201).then(|| run["id"].as_str().unwrap().to_owned())
    });
    let path = format!("/api/v1/runs/{run}");
    server.ask_until("the run ends", "GET", &path, |_, shown| shown["run"]["finished_at"].as_str().map(str::to_owned));
    let told = |words: &str, times: usize| server.log().matches(words).count() >= times;
    wait_until("both alerts and the catalogue are told", || told("alert not told", 2) && told("not told of runs", 1));

    // The secrets were truly sent, and came back.
    let asked = mirror.asked.lock().unwrap().join("\n");
    for sent in [LATE, "early-t1ger", "MIIcheetah", USER_BASE64, API_KEY] {
        assert!(asked.contains(sent), "{sent} was not sent");
    }
    let shown = server.ask("GET", &path).1;
    let mut tasks = Vec::new();
    for task in shown["tasks"].as_array().unwrap() {
        let name = task["task"].as_str().unwrap();
        let succeeds = SUCCEED.contains(&name);
        assert_eq!(task["state"], if succeeds { "succeeded" } else { "failed" }, "{task}");
        let repeats = succeeds || task["error"].as_str().unwrap().contains("***");
        assert!(repeats || SILENT.contains(&name), "it repeats nothing: {task}");
        tasks.push(name.to_owned());
    }
    assert_eq!(tasks.len(), DAG.matches("job: ").count());

    let plain = [EARLY, "early-t1ger", LATE, "MIIcheetah", "l3opard", "Serval-0042", "caracal-99", API_KEY];
    let mut needles: Vec<String> = plain.into_iter().chain([LATE_BASE64, USER_BASE64]).map(str::to_owned).collect();
    needles.extend((8..LATE.len()).map(|length| LATE[..length].to_owned()));
    needles.extend(password(database));
    let none_in = |place: &str, text: &str| {
        for needle in &needles {
            let at = text.find(needle.as_str());
            let around = at.map(|at| &text[text.floor_char_boundary(at.saturating_sub(200))..at]);
            assert!(around.is_none(), "{place} shows {needle}, after {around:?}");
        }
    };
    let lists = ["dags/leaky", "dags/leaky/versions", "dags/leaky/versions/current", "dags", "runs", "streams"];
    let mut paths: Vec<String> = lists.iter().map(|path| format!("/api/v1/{path}")).collect();
    paths.extend([path.clone(), format!("{path}/logs"), "/metrics".to_owned()]);
    for task in &tasks {
        paths.extend([format!("{path}/tasks/{task}"), format!("{path}/tasks/{task}/logs")]);
    }
    for path in paths {
        let (status, answer) = server.text("GET", &path);
        assert_eq!(status, 200, "{path}: {answer}");
        none_in(&path, &answer);
    }
    let log = server.stop();
    none_in("the log of the server", &log);
    assert!(log.contains("***"), "{log}");
    none_in("the state", &dump(&state));
    for file in files(&folder.join("home")) {
        if !file.starts_with(&secrets) {
            none_in(&file.display().to_string(), &String::from_utf8_lossy(&std::fs::read(&file).unwrap()));
        }
    }
}

/// The server of the program, and its log in a file.
struct Server {
    process: common::Server,
    url: String,
    log: PathBuf,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(folder: &Path, state: &Address, catalogue: &str) -> Self {
        let log = folder.join("log");
        let mut command = safari(folder);
        command.args(["server", "--slots", "4", "--listen", "127.0.0.1:0", "--dags"]).arg(folder.join("dags"));
        command.env("SAFARI_SECRET_EARLY", EARLY).env("SAFARI_LINEAGE_URL", catalogue);
        command.env("SAFARI_LINEAGE_API_KEY", API_KEY);
        if let Address::Postgres(url) = state {
            command.env("SAFARI_STATE_URL", url);
        }
        for proxy in ["http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        let mut server = Self {
            process: common::Server(command.spawn().unwrap()),
            url: String::new(),
            log,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            runtime: tokio::runtime::Runtime::new().unwrap(),
        };
        wait_until("the server answers", || server.address().is_some());
        server.url = server.address().unwrap();
        server
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    fn address(&self) -> Option<String> {
        let log = self.log();
        let rest = log.lines().find(|line| line.contains("answering"))?.split_once("http://")?.1;
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')?;
        Some(format!("http://{}", &rest[..end]))
    }

    fn text(&self, method: &str, path: &str) -> (u16, String) {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.url));
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    }

    fn ask(&self, method: &str, path: &str) -> (u16, Value) {
        let (status, text) = self.text(method, path);
        (status, serde_json::from_str(&text).unwrap())
    }

    fn ask_until(&self, what: &str, method: &str, path: &str, done: impl Fn(u16, &Value) -> Option<String>) -> String {
        let found = Mutex::new(None);
        wait_until(what, || {
            let (status, answer) = self.ask(method, path);
            *found.lock().unwrap() = done(status, &answer);
            found.lock().unwrap().is_some()
        });
        found.into_inner().unwrap().unwrap()
    }

    /// Ends it, and gives its whole log.
    fn stop(mut self) -> String {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
        self.log()
    }
}

/// A server that gives back what it is sent, and keeps it.
struct Mirror {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Mirror {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || answer(stream.unwrap(), &kept));
            }
        });
        Self { url, asked }
    }
}

fn answer(mut stream: TcpStream, asked: &Mutex<Vec<String>>) {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    let (head, body) = loop {
        let count = stream.read(&mut piece).unwrap_or(0);
        if count == 0 {
            return;
        }
        request.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        if body.len() >= length.unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    asked.lock().unwrap().push(format!("{head}\n{body}"));
    // The line in which the secret stands comes first: messages show the beginning.
    let secret = head.lines().find(|line| line.to_lowercase().starts_with("authorization:")).unwrap_or_default();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (status, kind, text) = match path {
        "/json" => ("200 OK", "application/json", serde_json::json!({"body": body, "head": head}).to_string()),
        // The message is cut in the middle of the secret.
        "/cut" => ("400 Bad Request", "text/plain", format!("{}{secret}", "x".repeat(275))),
        _ => ("400 Bad Request", "text/plain", format!("no: {secret} {body} {head}")),
    };
    let length = text.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    );
    let _ = stream.write_all(answer.as_bytes());
}

/// The values of all columns of all tables.
fn dump(state: &Address) -> String {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let database = Database::open(state).await.unwrap();
        let columns = match state {
            Address::Sqlite(_) => {
                "SELECT entry.name, field.name FROM sqlite_master entry, pragma_table_info(entry.name) field
                 WHERE entry.type = 'table'"
            }
            Address::Postgres(_) => {
                "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT) FROM information_schema.columns
                 WHERE table_schema = 'public'"
            }
        };
        let columns: Vec<(String, String)> = sqlx::query_as(columns).fetch_all(database.pool()).await.unwrap();
        assert!(columns.len() > 30, "{columns:?}");
        let mut all = String::new();
        // What migrations note of themselves is no text.
        for (table, column) in columns.into_iter().filter(|(table, _)| !table.ends_with("_migrations")) {
            let sql = format!("SELECT CAST(\"{column}\" AS TEXT) FROM \"{table}\" WHERE \"{column}\" IS NOT NULL");
            let values: Vec<(String,)> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(database.pool()).await.unwrap();
            all.extend(values.into_iter().map(|(value,)| format!("{table}.{column}: {value}\n")));
        }
        // Closing it puts the files of SQLite in order, which are looked at next.
        database.pool().close().await;
        assert!(all.contains("run.error: ") && all.contains("alert.error: "), "{all}");
        all
    })
}

/// The password of a URL that has one.
fn password(url: &str) -> Option<String> {
    url::Url::parse(url).ok()?.password().map(str::to_owned)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found
}
