//! Changes of runs: told in order to all who follow, whichever process makes them, and none is missed.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream, to_bytes};
use axum::http::{Request, StatusCode};
use futures::StreamExt;
use pipeline::clock::Timestamp;
use pipeline::state::{Again, ChangeFilter, RunChange};
use pipeline::{ChangeFeed, Follower, RunId, RunState, Scheduler, Store};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;
use tower::ServiceExt;

use crate::common::{dag, store};

const YAML: &str = "dag: told\ntasks:\n  a: {job: give}\n";
/// Far longer than anything here takes: only a change that never comes waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

async fn make(store: &Store, yaml: &str) -> RunId {
    let dag = dag(yaml);
    store.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap()
}

async fn next(follower: &mut Follower) -> RunChange {
    timeout(PATIENCE, follower.next()).await.expect("no change came").unwrap()
}

/// Run and state of the next changes.
async fn states(follower: &mut Follower, count: usize) -> Vec<(RunId, RunState)> {
    let mut states = Vec::new();
    for _ in 0..count {
        let change = next(follower).await;
        states.push((change.run, change.state));
    }
    states
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_another_process_are_told_in_order() {
    let home = tempfile::tempdir().unwrap();
    // Two stores know as little of one another as two processes.
    let (here, other) = (store(home.path()).await, store(home.path()).await);
    let before = make(&other, YAML).await;
    let feed = ChangeFeed::new(here.clone());
    let mut all = feed.follow(ChangeFilter::default(), None).await.unwrap();
    let begin = all.position();
    let run = make(&other, YAML).await;
    let mut late = feed.follow(ChangeFilter { run: Some(run), dag: None }, None).await.unwrap();
    Scheduler::new(other.clone(), Duration::from_secs(30)).pass(Timestamp::now()).await.unwrap();
    other.cancel(run, Timestamp::now()).await.unwrap();
    other.reopen(run, Again::Failed, Timestamp::now()).await.unwrap();
    other.cancel(run, Timestamp::now()).await.unwrap();

    // The scheduler begins both runs, in whichever order.
    let own = |states: &[(RunId, RunState)], run| -> Vec<RunState> {
        states.iter().filter(|(of, _)| *of == run).map(|(_, state)| *state).collect()
    };
    use RunState::{Cancelled, Queued, Running};
    let told = states(&mut all, 6).await;
    assert_eq!(own(&told, before), [Running]);
    assert_eq!(own(&told, run), [Queued, Running, Cancelled, Queued, Cancelled]);
    let told = states(&mut late, 4).await;
    assert_eq!(own(&told, run), [Running, Cancelled, Queued, Cancelled], "only of the run, from then on");

    let mut again = feed.follow(ChangeFilter::default(), Some(begin)).await.unwrap();
    let (mut last, mut repeated) = (begin, Vec::new());
    for _ in 0..6 {
        let change = next(&mut again).await;
        assert!(change.position > last, "{} after {last}", change.position);
        last = change.position;
        repeated.push((change.run, change.state));
    }
    assert_eq!(own(&repeated, run), [Queued, Running, Cancelled, Queued, Cancelled], "from the position on");
    let error = feed.follow(ChangeFilter::default(), Some(last + 1)).await.unwrap_err();
    assert!(error.to_string().contains("is of another database"), "{error}");

    drop((all, late, again));
    let mut anew = feed.follow(ChangeFilter { run: None, dag: Some("wanted".to_owned()) }, None).await.unwrap();
    make(&other, YAML).await;
    let wanted = make(&other, &YAML.replace("told", "wanted")).await;
    assert_eq!(states(&mut anew, 1).await, [(wanted, Queued)], "the poller begins again, and the filter holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_follower_misses_nothing() {
    const RUNS: usize = 700;
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let feed = ChangeFeed::new(store.clone());
    let mut slow = feed.follow(ChangeFilter::default(), None).await.unwrap();
    let mut quick = feed.follow(ChangeFilter::default(), None).await.unwrap();
    // More changes than are kept for anybody.
    let runs = futures::future::join_all((0..RUNS).map(|_| make(&store, YAML))).await;
    futures::future::join_all(runs.iter().map(|run| store.cancel(*run, Timestamp::now()))).await;
    for follower in [&mut quick, &mut slow] {
        let mut told = states(follower, 2 * RUNS).await;
        told.sort_by_key(|(run, _)| *run);
        let mut expected: Vec<_> =
            runs.iter().flat_map(|run| [(*run, RunState::Queued), (*run, RunState::Cancelled)]).collect();
        expected.sort_by_key(|(run, _)| *run);
        assert_eq!(told, expected);
    }
}

/// Events as a client sees them: blocks between empty lines.
struct Events {
    body: BodyDataStream,
    text: String,
}

impl Events {
    async fn ask(router: &Router, query: &str, last: Option<&str>) -> (StatusCode, Self) {
        let mut request = Request::builder().uri(format!("/api/v1/events{query}"));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = answer.status();
        (status, Self { body: answer.into_body().into_data_stream(), text: String::new() })
    }

    /// The next block; nothing when the stream has ended.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let piece = timeout(PATIENCE, self.body.next()).await.expect("no event came")?;
            self.text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
        }
    }

    /// Id and data of the next event.
    async fn event(&mut self) -> (String, Value) {
        let block = self.next().await.expect("the stream has ended");
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            line.unwrap_or_else(|| panic!("no {name} in {block}")).to_owned()
        };
        assert_eq!(field("event"), "run");
        (field("id"), serde_json::from_str(&field("data")).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_now_goes_on_where_it_was_and_ends_with_the_server() {
    let home = tempfile::tempdir().unwrap();
    let (here, other) = (store(home.path()).await, store(home.path()).await);
    let (end, ending) = watch::channel(false);
    let api = pipeline::api::router_until(here, ending);
    make(&other, YAML).await;

    let (status, mut events) = Events::ask(&api, "?dag=told", None).await;
    assert_eq!(status, StatusCode::OK);
    let begin = events.next().await.unwrap();
    assert!(begin.contains("id: 1") && begin.contains("retry: 1000") && !begin.contains("data"), "{begin}");
    let run = make(&other, YAML).await;
    let (id, queued) = events.event().await;
    assert_eq!((id.as_str(), &queued["run"], &queued["state"]), ("2", &json!(run.to_string()), &json!("queued")));
    assert_eq!((&queued["dag"], &queued["cause"]), (&json!("told"), &json!("manual")));
    drop(events);
    other.cancel(run, Timestamp::now()).await.unwrap();

    // The client was away when the run was cancelled, and had seen nothing but the first id.
    let (_, mut events) = Events::ask(&api, "", Some("1")).await;
    assert!(events.next().await.unwrap().contains("id: 1"));
    assert_eq!(events.event().await.1["state"], "queued");
    let (id, cancelled) = events.event().await;
    assert_eq!((id.as_str(), &cancelled["state"]), ("3", &json!("cancelled")));

    for (query, last, status) in [
        ("?run=nonsense", None, 400),
        ("?run=019a0000-0000-7000-8000-000000000000", None, 404),
        ("?rum=x", None, 400),
        ("", Some("x"), 400),
        ("", Some("-1"), 400),
        ("", Some("99"), 400),
    ] {
        let (got, answer) = Events::ask(&api, query, last).await;
        assert_eq!(got.as_u16(), status, "{query} {last:?}");
        let problem = to_bytes(Body::from_stream(answer.body), 1 << 16).await.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&problem).unwrap()["status"], status);
    }
    end.send_replace(true);
    assert_eq!(events.next().await, None, "the stream ends");
}
