//! Replicas that are asked one by one: servers on any machines, by their addresses or by a name that has all of these.

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures::future::join_all;
use model_registry::VersionNumber;
use reqwest::Client;
use url::Url;

use super::replica::{Replica, Status};
use super::{Behind, Cause, Counted, Fleet, Standing, Versions, client, source};
use crate::{Error, Result, Tokens};

/// Replicas by their addresses.
#[derive(Debug)]
pub struct Replicas {
    client: Client,
    urls: Vec<Url>,
    tokens: Tokens,
}

impl Replicas {
    /// Replicas at these addresses; nothing is asked yet.
    ///
    /// # Errors
    /// [`Error::Fleet`]: an address that cannot be one of a replica.
    pub fn new(urls: &[Url], tokens: Tokens) -> Result<Self> {
        if urls.is_empty() {
            return Err(Error::Fleet("no replica is named; give each with --replica http://HOST:PORT".to_owned()));
        }
        for url in urls {
            let plain =
                url.path() == "/" && url.query().is_none() && url.username().is_empty() && url.password().is_none();
            if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || !plain {
                let shown = url.origin().ascii_serialization();
                return Err(Error::Fleet(format!(
                    "{shown}: write a replica as http://HOST:PORT or https://HOST, without a path"
                )));
            }
        }
        Ok(Self { client: client()?, urls: urls.to_vec(), tokens })
    }

    /// The replicas that there are now, and names that cannot be looked up.
    async fn all(&self) -> (Vec<Replica>, Vec<Behind>) {
        let (mut bases, mut behind) = (BTreeSet::new(), Vec::new());
        for url in &self.urls {
            match addresses(url).await {
                Ok(found) => bases.extend(found.into_iter().map(|base| (base, url.clone()))),
                Err(reason) => {
                    behind.push(Behind { replica: url.origin().ascii_serialization(), reason, cause: Cause::Away })
                }
            }
        }
        let replica =
            |(base, named): (Url, Url)| Replica::new(self.client.clone(), base, self.tokens.for_server(&named));
        (bases.into_iter().map(replica).collect(), behind)
    }

    /// Asks all at once.
    async fn each<F: Future<Output = Result<(), Behind>> + Send>(&self, ask: impl Fn(Replica) -> F + Send) -> Standing {
        let (replicas, behind) = self.all().await;
        let asked = replicas.into_iter().map(|replica| {
            let name = replica.name();
            let asking = ask(replica);
            async move { asking.await.map(|()| name) }
        });
        let mut standing = Standing { there: Vec::new(), behind };
        for answer in join_all(asked).await {
            match answer {
                Ok(name) => standing.there.push(name),
                Err(behind) => standing.behind.push(behind),
            }
        }
        standing
    }
}

#[async_trait]
impl Fleet for Replicas {
    async fn share(&self, versions: &Versions, percent: u8) -> Result<Standing> {
        let (stable, candidate) = (versions.source(versions.stable), versions.source(versions.candidate));
        Ok(self.each(|replica| give_share(replica, stable.clone(), candidate.clone(), percent)).await)
    }

    async fn withdraw(&self) -> Result<Standing> {
        let withdraw = |replica: Replica| async move { replica.remove_candidate().await.map(drop) };
        Ok(self.each(withdraw).await)
    }

    async fn counted(&self, versions: &Versions) -> Result<Vec<Counted>> {
        let (stable, candidate) = (versions.source(versions.stable), versions.source(versions.candidate));
        let (replicas, _) = self.all().await;
        let asked = replicas.iter().map(|replica| replica.counted(&stable, &candidate));
        Ok(join_all(asked).await.into_iter().filter_map(Result::ok).collect())
    }

    async fn agree(&self, model: &str, version: VersionNumber) -> Result<Standing> {
        let wanted = source(model, version);
        Ok(self.each(|replica| bring_to(replica, wanted.clone())).await)
    }
}

/// Gives the candidate its share at one replica, and lets it stay for longer.
async fn give_share(replica: Replica, stable: String, candidate: String, percent: u8) -> Result<(), Behind> {
    let status = replica.status().await?;
    let Some(current) = &status.current else {
        return Err(replica.behind(Cause::NotYet, "it is loading its first model"));
    };
    if current.source != stable {
        let reason = format!("it answers with {}, not with {stable}, which is to be replaced", current.source);
        return Err(replica.behind(Cause::NotYet, reason));
    }
    // Asked for each time: so it stays, and a share that somebody changed comes back.
    let status = replica.set_candidate(&candidate, percent).await?;
    let same =
        |status: &Status| status.label(&candidate).is_some() && status.label(&candidate) == status.label(&stable);
    if same(&status) {
        let reason = format!(
            "{candidate} has the same content as {stable}, so there is nothing to compare; move the alias with `safari model promote`"
        );
        return Err(replica.behind(Cause::Refused, reason));
    }
    match &status.candidate {
        Some(there) if there.model.source == candidate && there.percent == percent && there.mode == "canary" => Ok(()),
        _ => Err(replica.behind(Cause::NotYet, format!("{candidate} has not its share of {percent} percent"))),
    }
}

/// Lets one replica answer with what the alias names, and nothing else.
async fn bring_to(replica: Replica, wanted: String) -> Result<(), Behind> {
    let mut status = replica.status().await?;
    if status.serves_alone(&wanted) {
        return Ok(());
    }
    // A replica that follows the alias takes the model that it has in memory. Before its candidate goes: a replica that
    // follows nothing has the version as its candidate only.
    if status.current.as_ref().is_none_or(|current| current.source != wanted) {
        status = replica.refresh().await?;
    }
    let is_candidate = status.candidate.as_ref().is_some_and(|candidate| candidate.model.source == wanted);
    if is_candidate && status.current.as_ref().is_none_or(|current| current.source != wanted) {
        status = replica.promote().await?;
    }
    if status.candidate.is_some() {
        status = replica.remove_candidate().await?;
    }
    if status.serves_alone(&wanted) {
        return Ok(());
    }
    let current = status.current.map_or_else(|| "nothing yet".to_owned(), |current| current.source);
    Err(replica
        .behind(Cause::NotYet, format!("it answers with {current}, not with {wanted}; does it follow the alias")))
}

/// The addresses behind a URL: the URL itself, unless its host is a name with several addresses.
async fn addresses(url: &Url) -> Result<Vec<Url>, String> {
    let Some(url::Host::Domain(name)) = url.host() else { return Ok(vec![url.clone()]) };
    let port = url.port_or_known_default().unwrap_or(80);
    let found = tokio::net::lookup_host((name, port)).await;
    let found: BTreeSet<_> = found.map_err(|error| format!("its name cannot be looked up: {error}"))?.collect();
    // A certificate is for the name, and so is a single address.
    if found.len() < 2 || name == "localhost" || url.scheme() == "https" {
        return Ok(vec![url.clone()]);
    }
    let at = |address: std::net::SocketAddr| {
        let mut one = url.clone();
        one.set_ip_host(address.ip()).map(|()| one).map_err(|()| format!("{address} is no address of a replica"))
    };
    found.into_iter().map(at).collect()
}
