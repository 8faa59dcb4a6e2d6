//! Begins, pauses, aborts, undoes and drives rollouts.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model_registry::VersionNumber;
use model_registry::client::{Client, Source};
use platform::config::Config;
use platform::identity::TOKEN_VARIABLE;
use tokio::sync::watch;
use tracing::warn;
use url::Url;

use crate::driver::{Driver, Pace};
use crate::fleet::{ClusterAccess, Fleet, Kubernetes, Place, Replicas};
use crate::machine::Phase;
use crate::plan::Plan;
use crate::prometheus::{Prometheus, PrometheusSource};
use crate::store::{Change, Draft, Event, Rollout, Store, Stored};
use crate::{Error, Result, RolloutId, alias};

/// How often events are looked for by whoever follows a rollout.
const LOOK: Duration = Duration::from_millis(500);
/// How often a rollout is looked at that another process drives.
const WAIT: Duration = Duration::from_secs(1);
/// How often rollouts that nobody drives are looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// How often a change is tried that meets others.
const TRIES: u32 = 5;

/// Rollouts in the database of the state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rollouts {
    store: Store,
    client: Client,
    access: Access,
    pace: Pace,
    holder: String,
}

/// How whoever drives rollouts reaches what they need.
#[derive(Clone, Debug)]
pub struct Access {
    /// For replicas.
    pub tokens: Tokens,
    /// The API server of Kubernetes.
    pub cluster: ClusterAccess,
    /// Who has counted the answers, where a plan does not say.
    pub prometheus: Option<PrometheusSource>,
    /// The header `Authorization` for servers of Prometheus.
    pub prometheus_authorization: Authorization,
}

/// The value of a header that proves who asks.
#[derive(Clone, Default)]
pub struct Authorization(Option<String>);

/// What is to be rolled out.
#[derive(Clone, Debug)]
pub struct NewRollout {
    /// The registered model.
    pub model: String,
    /// The alias that replicas follow.
    pub alias: String,
    /// The version that it is to name.
    pub candidate: VersionNumber,
    /// What to do.
    pub plan: Plan,
    /// With which replicas.
    pub fleet: Place,
    /// Who asks.
    pub actor: String,
    /// Who asks again with the same key gets the same rollout.
    pub key: Option<String>,
}

/// Finds the token for a server, by its origin such as `http://127.0.0.1:8080`.
type Find = dyn Fn(&str) -> Option<String> + Send + Sync;

/// What replicas are told of who asks.
#[derive(Clone)]
pub struct Tokens(Arc<Find>);

impl Tokens {
    /// Tokens that are looked for by the server's origin, such as `http://127.0.0.1:8080`.
    pub fn new(find: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(find))
    }

    /// The token of the variable `SAFARI_TOKEN`, for all replicas.
    pub fn from_environment() -> Self {
        Self::new(|_| std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()))
    }

    /// The token for a server, if there is one.
    pub(crate) fn for_server(&self, url: &Url) -> Option<String> {
        (self.0)(&url.origin().ascii_serialization())
    }
}

/// Without secrets.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(***)")
    }
}

impl Authorization {
    /// The value; none of an empty text.
    pub fn new(value: &str) -> Self {
        Self((!value.is_empty()).then(|| value.to_owned()))
    }
}

/// Without secrets.
impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(***)")
    }
}

impl Access {
    /// With these tokens alone.
    pub fn with_tokens(tokens: Tokens) -> Self {
        let (cluster, prometheus_authorization) = (ClusterAccess::default(), Authorization::default());
        Self { tokens, cluster, prometheus: None, prometheus_authorization }
    }

    /// What the settings say: `kubernetes.kubeconfig`, `kubernetes.namespace`, `rollout.*`.
    ///
    /// # Errors
    /// [`Error::Plan`]: `rollout.prometheus` cannot be used.
    pub fn of(config: &Config, tokens: Tokens) -> Result<Self> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let prometheus = given(&config.rollout.prometheus).map(|url| PrometheusSource::new(&url)).transpose()?;
        Ok(Self {
            tokens,
            cluster: ClusterAccess {
                kubeconfig: config.kubernetes.kubeconfig.clone(),
                namespace: given(&config.kubernetes.namespace),
            },
            prometheus,
            prometheus_authorization: Authorization::new(&config.rollout.prometheus_authorization),
        })
    }
}

/// Drives the rollouts of the settings that nobody drives, until `stop`. The registry is opened when there is one to drive.
pub async fn drive_all(config: &Config, tokens: Tokens, mut stop: watch::Receiver<bool>) {
    let mut store = None;
    loop {
        match begin(config, &tokens, &mut store).await {
            Ok(Some(rollouts)) => return rollouts.drive_all(stop).await,
            Ok(None) => {}
            Err(error) => warn!(%error, "rollouts are not driven now"),
        }
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

impl Rollouts {
    /// The rollouts of the settings, with the registry of the settings.
    ///
    /// # Errors
    /// What is wrong with the database or the registry.
    pub async fn open(config: &Config, tokens: Tokens) -> Result<Self> {
        let store = Store::open(&config.state_address()).await?;
        Ok(Self::new(store, Client::open(config).await?, Access::of(config, tokens)?, Pace::default()))
    }

    /// Rollouts with what is open already.
    pub fn new(store: Store, client: Client, access: Access, pace: Pace) -> Self {
        let holder = format!("process {} ({})", std::process::id(), uuid::Uuid::new_v4().simple());
        Self { store, client, access, pace, holder }
    }

    /// Their tables.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Begins a rollout; nothing is done yet: somebody must drive it.
    ///
    /// # Errors
    /// [`Error::NoAlias`], [`Error::SameVersion`], [`Error::Busy`]; there is no such version; the replicas are none;
    /// [`Error::Fleet`] with what a Deployment lacks.
    pub async fn start(&self, new: &NewRollout) -> Result<Rollout> {
        if let Some(key) = &new.key
            && let Some(begun) = self.store.by_key(key).await?
        {
            return Ok(begun);
        }
        let fleet = self.open_fleet(&new.fleet, &new.alias).await?;
        self.client.find_version(&Source::Version(new.model.clone(), new.candidate)).await?;
        let (model, alias) = (new.model.clone(), new.alias.clone());
        let stable = match alias::names(&self.client, &model, &alias).await? {
            None => return Err(Error::NoAlias { model, alias }),
            Some(version) if version == new.candidate => return Err(Error::SameVersion { model, alias, version }),
            Some(version) => version,
        };
        let mut place = new.fleet.clone();
        if let Opened::Kubernetes(kubernetes) = &fleet {
            kubernetes.check(&model, stable).await?;
            // Whoever goes on with it may have other settings.
            place = Place::Kubernetes(kubernetes.target().clone());
        }
        let prometheus = new.plan.prometheus.clone().or_else(|| self.access.prometheus.clone());
        let plan = Plan { prometheus, kubernetes: None, ..new.plan.clone() };
        let draft = Draft {
            model,
            alias,
            stable,
            candidate: new.candidate,
            plan: Stored { plan, fleet: place },
            actor: new.actor.clone(),
            key: new.key.clone(),
        };
        self.store.create(&draft).await
    }

    /// Lets a rollout stay at its step.
    ///
    /// # Errors
    /// [`Error::Phase`] unless it is advancing.
    pub async fn pause(&self, id: RolloutId, note: &str) -> Result<Rollout> {
        self.turn(id, "paused", note, |phase| (phase == Phase::Advancing).then_some(Phase::Paused)).await
    }

    /// Lets a paused rollout go on; its step is watched anew. One that is under way stays as it is.
    ///
    /// # Errors
    /// [`Error::Phase`] if it has ended.
    pub async fn resume(&self, id: RolloutId, note: &str) -> Result<Rollout> {
        let rollout = self.store.get(id).await?;
        if !rollout.phase.is_end() && rollout.phase != Phase::Paused {
            return Ok(rollout);
        }
        self.turn(id, "resumed", note, |phase| (phase == Phase::Paused).then_some(Phase::Advancing)).await
    }

    /// Takes the candidate away again; the alias, if it was moved already, goes back.
    ///
    /// # Errors
    /// [`Error::Phase`] if it has ended or is being undone.
    pub async fn abort(&self, id: RolloutId, note: &str) -> Result<Rollout> {
        let turn = |phase| match phase {
            Phase::Advancing | Phase::Paused | Phase::Promoting | Phase::Aborting => Some(Phase::Aborting),
            _ => None,
        };
        self.turn(id, "aborted", note, turn).await
    }

    /// Moves the alias back to the version before, and lets replicas follow.
    ///
    /// # Errors
    /// [`Error::Phase`] unless it is promoted or being so; [`Error::MovedSince`]; [`Error::Busy`] while another rollout of
    /// the alias is under way.
    pub async fn undo(&self, id: RolloutId, note: &str) -> Result<Rollout> {
        let rollout = self.store.get(id).await?;
        if rollout.phase == Phase::Promoted {
            let now = alias::names(&self.client, &rollout.model, &rollout.alias).await?;
            if now != Some(rollout.candidate) || !alias::is_ours(&self.client, &rollout).await? {
                return Err(Error::MovedSince { id, model: rollout.model, alias: rollout.alias });
            }
        }
        let turn = |phase| match phase {
            Phase::Promoting | Phase::Promoted | Phase::Undoing => Some(Phase::Undoing),
            _ => None,
        };
        self.turn(id, "undone", note, turn).await
    }

    /// Follows a rollout to its end, and drives it whenever nobody else does. `tell` is given each event once. May be
    /// dropped at any moment: another goes on.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn follow(&self, id: RolloutId, mut tell: impl FnMut(&Event)) -> Result<Rollout> {
        let mut last = 0;
        let driving = self.drive_to_end(id);
        tokio::pin!(driving);
        loop {
            let ended = tokio::select! {
                done = &mut driving => done.map(|()| true)?,
                () = tokio::time::sleep(LOOK) => false,
            };
            match self.store.events(id, last).await {
                Ok(events) => {
                    for event in events {
                        last = event.no;
                        tell(&event);
                    }
                }
                Err(error) if !ended && error.is_transient() => {
                    warn!(rollout = %id, %error, "events cannot be read now")
                }
                Err(error) => return Err(error),
            }
            if ended {
                return self.store.get(id).await;
            }
        }
    }

    /// Drives all rollouts that nobody drives, until `stop`.
    pub async fn drive_all(&self, mut stop: watch::Receiver<bool>) {
        let driven: Arc<Mutex<BTreeSet<RolloutId>>> = Arc::default();
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            match self.store.under_way().await {
                Ok(rollouts) => {
                    for rollout in rollouts {
                        let id = rollout.id;
                        if !driven.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
                            continue;
                        }
                        let (this, driven) = (self.clone(), Arc::clone(&driven));
                        tasks.spawn(async move {
                            if let Err(error) = this.drive_to_end(id).await {
                                warn!(rollout = %id, %error, "a rollout is not driven now");
                            }
                            driven.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                        });
                    }
                }
                Err(error) => warn!(%error, "rollouts cannot be read now"),
            }
            while tasks.try_join_next().is_some() {}
            tokio::select! {
                () = tokio::time::sleep(SWEEP) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Drives a rollout to its end, or waits while another does.
    async fn drive_to_end(&self, id: RolloutId) -> Result<()> {
        let mut opened = None;
        loop {
            let rollout = self.store.get(id).await?;
            if rollout.phase.is_end() {
                return Ok(());
            }
            // Before it is claimed: who cannot reach what it needs leaves it to others.
            let driver = match opened.take() {
                Some(driver) => driver,
                None => self.driver(&rollout).await?,
            };
            if let Some(lease) = self.store.claim(id, &self.holder, self.pace.lease).await? {
                driver.drive(lease).await?;
                continue;
            }
            opened = Some(driver);
            tokio::time::sleep(WAIT).await;
        }
    }

    async fn driver(&self, rollout: &Rollout) -> Result<Driver<'_>> {
        let fleet: Box<dyn Fleet> = match self.open_fleet(&rollout.stored.fleet, &rollout.alias).await? {
            Opened::Replicas(replicas) => Box::new(replicas),
            Opened::Kubernetes(kubernetes) => Box::new(*kubernetes),
        };
        let authorization = || self.access.prometheus_authorization.0.clone();
        let source = rollout.stored.plan.prometheus.as_ref();
        let prometheus = source.map(|source| Prometheus::new(source, authorization())).transpose()?;
        Ok(Driver { store: &self.store, client: &self.client, fleet, prometheus, pace: self.pace })
    }

    async fn open_fleet(&self, place: &Place, alias: &str) -> Result<Opened> {
        let Access { tokens, cluster, .. } = &self.access;
        match place {
            Place::Replicas(urls) => Ok(Opened::Replicas(Replicas::new(urls, tokens.clone())?)),
            Place::Kubernetes(target) => {
                let kubernetes = Kubernetes::open(target, alias, cluster, tokens.clone()).await?;
                Ok(Opened::Kubernetes(Box::new(kubernetes)))
            }
        }
    }

    /// Changes the phase to what `turn` makes of it.
    async fn turn(
        &self,
        id: RolloutId,
        wanted: &'static str,
        note: &str,
        turn: impl Fn(Phase) -> Option<Phase>,
    ) -> Result<Rollout> {
        for _ in 0..TRIES {
            let rollout = self.store.get(id).await?;
            let Some(phase) = turn(rollout.phase) else {
                return Err(Error::Phase { id, phase: rollout.phase, wanted });
            };
            if phase == rollout.phase {
                return Ok(rollout);
            }
            let change = Change { phase, step: rollout.step, note: note.to_owned() };
            if let Some(changed) = self.store.change(&rollout, None, &change).await? {
                return Ok(changed);
            }
        }
        Err(Error::Changed(id))
    }
}

/// Replicas of either kind.
enum Opened {
    Replicas(Replicas),
    Kubernetes(Box<Kubernetes>),
}

/// What drives rollouts, if there is one that has not ended.
async fn begin(config: &Config, tokens: &Tokens, opened: &mut Option<Store>) -> Result<Option<Rollouts>> {
    let store = match opened {
        Some(store) => store.clone(),
        None => opened.insert(Store::open(&config.state_address()).await?).clone(),
    };
    if store.under_way().await?.is_empty() {
        return Ok(None);
    }
    let access = Access::of(config, tokens.clone())?;
    Ok(Some(Rollouts::new(store, Client::open(config).await?, access, Pace::default())))
}
