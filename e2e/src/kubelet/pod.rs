//! One pod: its process from beginning to end, and what is told of it.

use std::collections::BTreeMap;
use std::process::{ExitStatus, Stdio};
use std::sync::PoisonError;
use std::time::Duration;

use std::os::unix::process::ExitStatusExt;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::probe::Probe;
use super::{PLAY, Play, Shared};

/// How long it waits before it tells an API server again that was away.
const PAUSE: Duration = Duration::from_millis(300);

/// How long it waits before it tries again to start a process.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a container that has died waits before it begins anew; twice as long each time, as a kubelet does, but sooner.
const BACK_OFF: Duration = Duration::from_millis(500);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(4);

/// A pod under way; its process dies when this value is dropped.
pub(super) struct Handle {
    task: JoinHandle<()>,
    /// The seconds that it has to end, once it is told to.
    end: watch::Sender<Option<i64>>,
}

impl Handle {
    /// Tells the pod to end within so many seconds.
    pub(super) fn end(&self, seconds: Option<i64>) {
        self.end.send_if_modified(|end| end.is_none() && end.replace(seconds.unwrap_or(30)).is_none());
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A process and those that it has started; all die with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        signal_all(&self.0, Signal::KILL);
    }
}

/// Begins a pod.
pub(super) fn begin(shared: Shared, pod: Pod) -> Handle {
    let (end, told) = watch::channel(None);
    Handle { task: tokio::spawn(run(shared, pod, told)), end }
}

async fn run(shared: Shared, pod: Pod, mut told: watch::Receiver<Option<i64>>) {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let has_ended = matches!(phase, "Succeeded" | "Failed");
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first()).cloned().unwrap_or_default();
    let address = address();
    let teller = Teller {
        api: Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default()),
        pod: &pod,
        container: &container,
        address: &address,
    };
    if !has_ended && told.borrow().is_none() {
        live(&shared, &teller, &mut told).await;
    }
    // It stays until it is deleted.
    if told.wait_for(Option::is_some).await.is_ok() {
        teller.remove().await;
    }
}

/// The lives of a pod's container: one, or as many as it takes where it is to run always.
async fn live(shared: &Shared, teller: &Teller<'_>, told: &mut watch::Receiver<Option<i64>>) {
    let (pod, container) = (teller.pod, teller.container);
    let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    let is_always = policy.is_none_or(|policy| policy == "Always");
    let probe = Probe::of(container, teller.address);
    let mut before = Value::Null;
    let mut deaths = 0;
    loop {
        let process = match start(shared, pod, container, teller.address).await {
            Ok(process) => process,
            Err((reason, message)) => {
                let waiting = json!({"waiting": {"reason": reason, "message": message}});
                teller.tell(&Told { phase: "Pending", state: waiting, ..Told::default() }).await;
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => continue,
                    _ = told.wait_for(Option::is_some) => return,
                }
            }
        };
        *shared.started.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let began = Timestamp::now();
        let running = |is_ready| Told {
            phase: "Running",
            state: json!({"running": {"startedAt": seconds(began)}}),
            before: before.clone(),
            deaths,
            is_ready,
            why: None,
        };
        teller.tell(&running(probe.is_none())).await;
        let probing = async {
            let Some(probe) = &probe else { return std::future::pending().await };
            let mut was_ready = false;
            loop {
                let is_ready = probe.next(was_ready).await;
                teller.tell(&running(is_ready)).await;
                was_ready = is_ready;
            }
        };
        let (phase, state, why) = tokio::select! {
            ended = watch_over(process, pod, told, began) => ended,
            () = probing => return,
        };
        if !is_always || told.borrow().is_some() || why.is_some() {
            return teller.tell(&Told { phase, state, before, deaths, is_ready: false, why }).await;
        }
        before = state;
        deaths += 1;
        let back_off = LONGEST_BACK_OFF.min(BACK_OFF * 2_u32.saturating_pow(deaths - 1));
        let message = format!("back-off {back_off:?} restarting failed container={}", container.name);
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}});
        let (phase, before) = ("Running", before.clone());
        teller.tell(&Told { phase, state: waiting, before, deaths, is_ready: false, why: None }).await;
        tokio::select! {
            () = tokio::time::sleep(back_off) => {}
            _ = told.wait_for(Option::is_some) => return,
        }
    }
}

/// Waits for the end of a process; gives the phase, the state of its container, and why the pod as a whole has ended.
async fn watch_over(
    mut process: Process,
    pod: &Pod,
    told: &mut watch::Receiver<Option<i64>>,
    began: Timestamp,
) -> (&'static str, Value, Option<(&'static str, &'static str)>) {
    let play = play(pod);
    let fate = async {
        match play {
            Some((play, after)) => {
                tokio::time::sleep(after).await;
                play
            }
            None => std::future::pending().await,
        }
    };
    let terminated = |status: ExitStatus, reason: Option<&str>| {
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let usual = if code == 0 { "Completed" } else { "Error" };
        json!({"terminated": {
            "exitCode": code, "reason": reason.unwrap_or(usual), "startedAt": seconds(began),
            "finishedAt": seconds(Timestamp::now()),
        }})
    };
    tokio::select! {
        status = process.0.wait() => {
            let status = status.unwrap_or_default();
            (if status.success() { "Succeeded" } else { "Failed" }, terminated(status, None), None)
        }
        play = fate => {
            signal_all(&process.0, Signal::KILL);
            let status = process.0.wait().await.unwrap_or_default();
            match play {
                Play::OutOfMemory => ("Failed", terminated(status, Some("OOMKilled")), None),
                Play::Crashes => ("Failed", terminated(status, None), None),
                Play::Evicted => {
                    let why = ("Evicted", "The node was low on resource: memory.");
                    ("Failed", terminated(status, None), Some(why))
                }
            }
        }
        grace = ended(told) => {
            let until = tokio::time::Instant::now() + Duration::from_secs(u64::try_from(grace).unwrap_or(0));
            // An answer to it is not asked for: the process is told to end afterwards in any case.
            let _ = tokio::time::timeout_at(until, before_stop(pod)).await;
            signal(&process.0, Signal::TERM);
            let status = match tokio::time::timeout_at(until, process.0.wait()).await {
                Ok(status) => status.unwrap_or_default(),
                Err(_) => {
                    signal_all(&process.0, Signal::KILL);
                    process.0.wait().await.unwrap_or_default()
                }
            };
            (if status.success() { "Succeeded" } else { "Failed" }, terminated(status, None), None)
        }
    }
}

/// Runs what the container wants to be run before it is told to end.
async fn before_stop(pod: &Pod) {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let handler = container.and_then(|container| container.lifecycle.as_ref()?.pre_stop.as_ref()?.exec.as_ref());
    let words = handler.and_then(|exec| exec.command.as_deref()).unwrap_or_default();
    if let [program, args @ ..] = words {
        let _ = Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).status().await;
    }
}

/// Gives the seconds that the pod has, once it is told to end.
async fn ended(told: &mut watch::Receiver<Option<i64>>) -> i64 {
    let seconds = told.wait_for(Option::is_some).await.map(|seconds| *seconds);
    match seconds {
        Ok(seconds) => seconds.unwrap_or(30),
        // Nobody will tell.
        Err(_) => std::future::pending().await,
    }
}

/// Starts the process of a container, or says why it cannot.
async fn start(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    address: &str,
) -> Result<Process, (&'static str, String)> {
    let image = container.image.clone().unwrap_or_default();
    let Some(program) = shared.options.images.get(&image) else {
        return Err(("ErrImagePull", format!("failed to pull image \"{image}\": not found")));
    };
    let config = |message: String| ("CreateContainerConfigError", message);
    let variables = environment(shared, pod, container, address).await.map_err(config)?;
    let expand = |text: &String| {
        variables.iter().fold(text.clone(), |text, (name, value)| text.replace(&format!("$({name})"), value))
    };
    let broken = |error: std::io::Error| ("RunContainerError", error.to_string());
    let namespace = pod.namespace().unwrap_or_default();
    let log = std::fs::File::create(shared.logs.file(&namespace, &pod.name_any(), &container.name)).map_err(broken)?;
    let errors = log.try_clone().map_err(broken)?;
    // The process dies with the thread that has started it, and so with this process.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.args(container.args.iter().flatten().map(expand));
    command.env_clear().envs(&variables).process_group(0).kill_on_drop(true);
    command.current_dir(&shared.options.folder);
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    command.spawn().map(Process).map_err(broken)
}

/// The variables of a container.
async fn environment(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    address: &str,
) -> Result<BTreeMap<String, String>, String> {
    let namespace = pod.namespace().unwrap_or_default();
    let secrets: Api<Secret> = Api::namespaced(shared.client.clone(), &namespace);
    let config_maps: Api<ConfigMap> = Api::namespaced(shared.client.clone(), &namespace);
    let mut all = shared.options.environment.clone();
    for source in container.env_from.iter().flatten() {
        if let Some(secret) = &source.secret_ref {
            all.extend(values(&secrets, &secret.name).await?);
        }
        if let Some(map) = &source.config_map_ref {
            let found = config_maps.get(&map.name).await.map_err(|error| error.to_string())?;
            all.extend(found.data.unwrap_or_default());
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => value.clone(),
            (None, Some(source)) => value_from(&secrets, pod, source, address).await?,
            (None, None) => String::new(),
        };
        all.insert(variable.name.clone(), value);
    }
    Ok(all)
}

async fn value_from(secrets: &Api<Secret>, pod: &Pod, source: &EnvVarSource, address: &str) -> Result<String, String> {
    if let Some(field) = &source.field_ref {
        return match field.field_path.as_str() {
            "metadata.name" => Ok(pod.name_any()),
            "metadata.namespace" => Ok(pod.namespace().unwrap_or_default()),
            "status.podIP" => Ok(address.to_owned()),
            other => Err(format!("the field {other} is not played")),
        };
    }
    let key = source.secret_key_ref.as_ref().ok_or("a source of a variable that is not played")?;
    let values = values(secrets, &key.name).await?;
    values.get(&key.key).cloned().ok_or_else(|| format!("couldn't find key {} in Secret {}", key.key, key.name))
}

async fn values(secrets: &Api<Secret>, name: &str) -> Result<BTreeMap<String, String>, String> {
    let found = secrets.get_opt(name).await.map_err(|error| error.to_string())?;
    let data = found.ok_or_else(|| format!("secret \"{name}\" not found"))?.data.unwrap_or_default();
    Ok(data.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(&value.0).into_owned())).collect())
}

/// Tells the API server of one pod.
struct Teller<'a> {
    api: Api<Pod>,
    pod: &'a Pod,
    container: &'a Container,
    address: &'a str,
}

/// How a pod stands.
#[derive(Default)]
struct Told {
    phase: &'static str,
    /// Of its container: waiting, running or terminated.
    state: Value,
    /// How its container ended before; null if it has not.
    before: Value,
    deaths: u32,
    is_ready: bool,
    /// Why the pod as a whole has ended: reason and message.
    why: Option<(&'static str, &'static str)>,
}

impl Teller<'_> {
    /// Tells how the pod stands, as often as it takes.
    async fn tell(&self, told: &Told) {
        let Told { phase, state, before, deaths, is_ready, why } = told;
        let condition = |kind: &str| {
            json!({
                "type": kind, "status": if *is_ready { "True" } else { "False" },
                "lastTransitionTime": seconds(Timestamp::now()),
            })
        };
        let mut status = json!({
            "phase": phase,
            "startTime": seconds(Timestamp::now()),
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "conditions": [condition("Ready"), condition("ContainersReady")],
            "containerStatuses": [{
                "name": self.container.name, "image": self.container.image, "imageID": "", "ready": is_ready,
                "restartCount": deaths, "started": state.get("running").is_some(), "state": state,
                "lastState": if before.is_null() { json!({}) } else { before.clone() },
            }],
        });
        if let Some((reason, message)) = why {
            status["reason"] = json!(reason);
            status["message"] = json!(message);
        }
        let patch = Patch::Strategic(json!({"metadata": {"uid": self.pod.uid()}, "status": status}));
        loop {
            match self.api.patch_status(&self.pod.name_any(), &PatchParams::default(), &patch).await {
                Ok(_) => return,
                // It is gone, or another one has its name.
                Err(kube::Error::Api(status)) if (400..500).contains(&status.code) && status.code != 429 => return,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Says that the pod has ended and may go.
    async fn remove(&self) {
        let only = Preconditions { uid: self.pod.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default().grace_period(0) };
        loop {
            match self.api.delete(&self.pod.name_any(), &params).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if (400..500).contains(&status.code) && status.code != 429 => return,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// An address of this machine for a pod alone, so that pods may listen on the same port. There are 16 million.
fn address() -> String {
    let chance = uuid::Uuid::new_v4().into_bytes();
    format!("127.{}.{}.{}", 1 + chance[0] % 250, chance[1], 1 + chance[2] % 250)
}

/// What befalls a pod, and when.
fn play(pod: &Pod) -> Option<(Play, Duration)> {
    let (what, after) = pod.annotations().get(PLAY)?.split_once(':')?;
    let number = pod.annotations().get("safari/attempt-number").map(String::as_str);
    let what = match what.strip_prefix("first-") {
        Some(_) if number != Some("1") => return None,
        Some(what) => what,
        None => what,
    };
    let play = match what {
        "oom" => Play::OutOfMemory,
        "evict" => Play::Evicted,
        "crash" => Play::Crashes,
        _ => return None,
    };
    Some((play, Duration::from_millis(after.parse().ok()?)))
}

fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = pid(child) {
        // It may have ended.
        let _ = kill_process(pid, signal);
    }
}

/// The process, and those that it has started.
fn signal_all(child: &Child, signal: Signal) {
    if let Some(pid) = pid(child) {
        let _ = kill_process_group(pid, signal);
    }
}

fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

fn seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}
