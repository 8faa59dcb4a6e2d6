//! A registry with two versions, tables, and replicas.

use std::time::Duration;

use model_registry::VersionNumber;
use model_registry::client::{Client, NewVersion};
use platform::config::Config;
use platform::database::{Address, Database};
use rollout::fleet::Place;
use rollout::plan::{Plan, Step};
use rollout::store::Store;
use rollout::{Access, NewRollout, Pace, Rollouts, Tokens};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::replica::{Behaviour, Replica};

pub const STABLE: &str = "models:/wildlife/1";
pub const CANDIDATE: &str = "models:/wildlife/2";

pub struct World {
    pub client: Client,
    pub store: Store,
    _home: TempDir,
}

/// One server for all tests; none where PostgreSQL is not installed.
async fn postgres() -> Option<&'static e2e::postgres::Server> {
    static SERVER: OnceCell<Option<e2e::postgres::Server>> = OnceCell::const_new();
    let start = || async {
        match e2e::postgres::Server::start().await {
            Ok(server) => Some(server),
            Err(error @ e2e::Error::Missing { .. }) => {
                eprintln!("skipped on PostgreSQL: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    };
    SERVER.get_or_init(start).await.as_ref()
}

impl World {
    /// Tables in SQLite.
    pub async fn sqlite() -> Self {
        let home = tempfile::tempdir().unwrap();
        let address = Address::Sqlite(home.path().join("state.db"));
        Self::on(home, &address).await
    }

    /// Tables on SQLite and, where it is installed, on PostgreSQL.
    pub async fn both() -> Vec<Self> {
        let mut worlds = vec![Self::sqlite().await];
        if let Some(server) = postgres().await {
            let address = Address::Postgres(server.database().await.unwrap());
            Store::migrate(&Database::open(&address).await.unwrap()).await.unwrap();
            worlds.push(Self::on(tempfile::tempdir().unwrap(), &address).await);
        }
        worlds
    }

    async fn on(home: TempDir, address: &Address) -> Self {
        let flags = [("home".to_owned(), home.path().join("home").display().to_string())];
        let config = Config::load(None, &flags).unwrap();
        let client = Client::local(&config).await.unwrap();
        client.ensure_model("wildlife", None, &[]).await.unwrap();
        for _ in 0..5 {
            let source = "s3://models/wildlife".to_owned();
            let version = NewVersion { name: "wildlife".to_owned(), source, ..NewVersion::default() };
            client.create_version(&version).await.unwrap();
        }
        client.set_alias("wildlife", "champion", VersionNumber(1)).await.unwrap();
        Self { client, store: Store::open(address).await.unwrap(), _home: home }
    }

    /// A driver of its own, as another process would be.
    pub fn rollouts(&self) -> Rollouts {
        let pace = Pace { look: Duration::from_millis(20), lease: Duration::from_millis(600) };
        let access = Access::with_tokens(Tokens::new(|_| None));
        Rollouts::new(self.store.clone(), self.client.clone(), access, pace)
    }

    pub async fn replicas(&self, count: usize, behaviour: Behaviour) -> Vec<Replica> {
        let mut replicas = Vec::new();
        for _ in 0..count {
            replicas.push(Replica::start(&self.client, STABLE, behaviour).await);
        }
        replicas
    }

    pub async fn champion(&self) -> i64 {
        self.client.version_by_alias("wildlife", "champion").await.unwrap().unwrap().version.0
    }
}

/// Two steps of a second.
pub fn plan() -> Plan {
    let steps = [20, 100].map(|percent| Step { percent, pause: Duration::from_secs(1) });
    Plan { steps: steps.to_vec(), patience: Duration::from_secs(3), ..Plan::default() }
}

pub fn to(replicas: &[Replica]) -> NewRollout {
    NewRollout {
        model: "wildlife".to_owned(),
        alias: "champion".to_owned(),
        candidate: VersionNumber(2),
        plan: plan(),
        fleet: Place::Replicas(replicas.iter().map(|replica| replica.url.clone()).collect()),
        actor: "ada".to_owned(),
        key: None,
    }
}
