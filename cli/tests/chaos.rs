//! Two schedulers and three workers on PostgreSQL, processes killed and stopped at random, and the server restarted in
//! the middle: every task ends, and every effect exists once.
//!
//! `CHAOS_SEED=7` repeats what was done when; what it met depends on the machine as well.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use platform::database::{Address, Database};
use sqlx::AnyPool;

/// Runs, and tasks that have an effect in each.
const RUNS: usize = 5;
const TASKS: usize = 400;
const EFFECTS: i64 = (RUNS * TASKS) as i64;

/// A task takes a while, so that processes die in the middle of it. It counts how often it was done.
const DAG: &str = r#"dag: chaos
params:
  tasks: {type: integer, default: 400}
max_active_runs: 3
tasks:
  effect:
    job: sql
    map: "{{ range(params.tasks) | list }}"
    pool: effects
    retries: 30
    retry_delay: 200ms
    retry_max_delay: 2s
    with:
      database: "{{ secrets.effects }}"
      query: >-
        INSERT INTO effect (key, done) SELECT $1, 1 FROM pg_sleep(0.25)
        ON CONFLICT (key) DO UPDATE SET done = effect.done + 1
      parameters: ["{{ run.id }}/effect/{{ index }}"]
  join:
    job: sql
    needs: [effect]
    retries: 30
    retry_delay: 200ms
    with:
      database: "{{ secrets.effects }}"
      query: INSERT INTO joined (run) VALUES ($1) ON CONFLICT DO NOTHING
      parameters: ["{{ run.id }}"]
"#;

/// A process of the deployment, started again when it is killed.
struct Process {
    name: String,
    home: PathBuf,
    url: String,
    args: Vec<String>,
    child: Child,
    kills: usize,
    stops: usize,
}

/// Counts of what was done to the processes.
#[derive(Debug, Default)]
struct Faults {
    kills: usize,
    stops: usize,
    restarts: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_task_ends_and_every_effect_exists_once() {
    let mut random = Random::new();
    println!("CHAOS_SEED={}", random.seed);
    let mut server = e2e::postgres::Server::start().await.unwrap();
    let url = server.database().await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let dags = home.path().join("dags");
    std::fs::create_dir_all(&dags).unwrap();
    std::fs::write(dags.join("chaos.yaml"), DAG).unwrap();
    let database = Database::open(&Address::Postgres(url.clone())).await.unwrap();
    for table in ["effect (key TEXT PRIMARY KEY, done BIGINT NOT NULL)", "joined (run TEXT PRIMARY KEY)"] {
        let made = sqlx::query(sqlx::AssertSqlSafe(format!("CREATE TABLE {table}")));
        made.execute(database.pool()).await.unwrap();
    }

    let folder = dags.display().to_string();
    let mut processes = Vec::new();
    for number in 0..2 {
        let name = format!("scheduler-{number}");
        processes.push(Process::start(home.path(), &url, &name, &["scheduler", "--dags", &folder]));
    }
    wait_until("the dag is read", || {
        safari(home.path(), &url, "ask").args(["trigger", "chaos"]).output().unwrap().status.success()
    });
    for number in 0..3 {
        let name = format!("worker-{number}");
        processes.push(Process::start(home.path(), &url, &name, &["worker", "--slots", "8"]));
    }
    let pool = pipeline::Store::open(database.clone()).await.unwrap();
    pool.set_pool("effects", 20).await.unwrap();
    for _ in 1..RUNS {
        assert!(safari(home.path(), &url, "ask").args(["trigger", "chaos"]).output().unwrap().status.success());
    }

    let began = Instant::now();
    let mut faults = Faults::default();
    while began.elapsed() < Duration::from_secs(150) {
        let ended = number(database.pool(), "SELECT COUNT(*) FROM run WHERE finished_at IS NOT NULL").await;
        if ended == Some(RUNS as i64) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200 + random.below(600))).await;
        let enough = began.elapsed() > Duration::from_secs(40);
        match random.below(20) {
            _ if enough => {}
            _ if faults.restarts == 0 && began.elapsed() > Duration::from_secs(8) => {
                server.restart().await.unwrap();
                faults.restarts += 1;
            }
            0..8 => {
                let chosen = random.below(processes.len() as u64) as usize;
                processes[chosen].kill_and_start();
                faults.kills += 1;
            }
            8..12 => {
                let chosen = random.below(processes.len() as u64) as usize;
                // Some for longer than the lease of two seconds.
                processes[chosen].stop_for(Duration::from_millis(300 + random.below(4000))).await;
                faults.stops += 1;
            }
            _ => {}
        }
    }
    let took = began.elapsed();

    let ask = |sql: &'static str| number(database.pool(), sql);
    let states: Vec<(String, i64)> =
        sqlx::query_as("SELECT state, COUNT(*) FROM run GROUP BY state").fetch_all(database.pool()).await.unwrap();
    assert_eq!(states, [("succeeded".to_owned(), RUNS as i64)], "{}", logs(home.path()));
    let open = "SELECT COUNT(*) FROM task_instance WHERE state <> 'succeeded'";
    assert_eq!(ask(open).await, Some(0));
    assert_eq!(ask("SELECT COUNT(*) FROM effect").await, Some(EFFECTS));
    assert_eq!(ask("SELECT COUNT(*) FROM joined").await, Some(RUNS as i64));
    assert_eq!(ask("SELECT COUNT(*) FROM attempt WHERE state = 'running'").await, Some(0));
    assert_eq!(ask("SELECT used FROM pool WHERE name = 'effects'").await, Some(0));
    // No instance counts two attempts as succeeded, however often it was tried.
    let twice = "SELECT COUNT(*) FROM (SELECT 1 FROM attempt WHERE state = 'succeeded'
                 GROUP BY task_instance_id HAVING COUNT(*) > 1) AS twice";
    assert_eq!(ask(twice).await, Some(0));
    assert!(faults.kills > 0 && faults.stops > 0 && faults.restarts == 1, "too little happened: {faults:?}");

    let count = async |sql: &'static str| number(database.pool(), sql).await.unwrap();
    let lost = count("SELECT COUNT(*) FROM attempt WHERE state = 'lost'").await;
    let failed = count("SELECT COUNT(*) FROM attempt WHERE state = 'failed'").await;
    let repeated = count("SELECT CAST(SUM(done) - COUNT(*) AS BIGINT) FROM effect").await;
    println!(
        "{EFFECTS} tasks and {RUNS} joins in {:.0} s; {} kills, {} stops, {} restart of the database; \
         {lost} attempts lost, {failed} failed and retried; {repeated} effects done again, none twice in the table",
        took.as_secs_f64(),
        faults.kills,
        faults.stops,
        faults.restarts
    );
    for process in &mut processes {
        println!("{}: {} kills, {} stops", process.name, process.kills, process.stops);
    }
}

impl Process {
    fn start(home: &Path, url: &str, name: &str, args: &[&str]) -> Self {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let child = spawn(home, url, name, &args);
        let (home, url, name) = (home.to_owned(), url.to_owned(), name.to_owned());
        Self { name, home, url, args, child, kills: 0, stops: 0 }
    }

    fn kill_and_start(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.home, &self.url, &self.name, &self.args);
        self.kills += 1;
    }

    async fn stop_for(&mut self, time: Duration) {
        self.signal("-STOP");
        tokio::time::sleep(time).await;
        self.signal("-CONT");
        self.stops += 1;
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(home: &Path, url: &str, name: &str, args: &[String]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(home.join(format!("{name}.log"))).unwrap();
    safari(home, url, name).args(args).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// Each process has a home of its own, as on hosts of their own.
fn safari(home: &Path, url: &str, name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_safari"));
    command.arg("--home").arg(home.join(name)).current_dir(home);
    command.env("SAFARI_STATE_URL", url).env("SAFARI_SECRET_EFFECTS", url).env("SAFARI_RUN_LEASE_SECONDS", "2");
    command
}

/// What the processes said at their ends, for a failed test.
fn logs(home: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(home).unwrap().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(30).collect();
            text.push_str(&format!("\n--- {}\n", entry.path().display()));
            last.iter().rev().for_each(|line| text.push_str(&format!("{line}\n")));
        }
    }
    text
}

/// A count, or nothing while the server is away.
async fn number(pool: &AnyPool, sql: &'static str) -> Option<i64> {
    sqlx::query_as::<_, (i64,)>(sql).fetch_one(pool).await.ok().map(|(count,)| count)
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: not after a minute");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A small generator (xorshift), so that a seed repeats the choices.
struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    fn new() -> Self {
        let given = std::env::var("CHAOS_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
        Self { seed, state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % limit
    }
}
