//! Tokens of another issuer: a real OpenID Connect provider.

use std::path::Path;
use std::process::Stdio;

use axum::http::{HeaderMap, HeaderValue};
use platform::database::Engine;
use platform::identity::{ExternalOptions, How, IdentityOptions, Permission, Role};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::served::Served;

/// The provider; it ends with this value, by the end of its standard input.
struct Provider {
    issuer: String,
    _child: Child,
}

impl Provider {
    /// None where npm could not fetch it.
    async fn start() -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc");
        if !folder.join("node_modules/installed.json").exists() {
            eprintln!("SKIPPED: there is no OpenID Connect issuer; `scripts/setup --test` fetches it with npm");
            return None;
        }
        let mut command = Command::new("node");
        command.arg("provider.mjs").current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let issuer = lines.next_line().await.unwrap().expect("the provider has ended");
        Some(Self { issuer, _child: child })
    }

    async fn token(&self, client: &str, resource: &str) -> String {
        let body = format!("grant_type=client_credentials&resource={resource}");
        let request = reqwest::Client::new().post(format!("{}/token", self.issuer)).body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request = request.basic_auth(client, Some("a%20secret%20of%20the%20tests"));
        let answer: Value = serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

fn bearer(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    [(axum::http::header::AUTHORIZATION, value)].into_iter().collect()
}

#[tokio::test]
async fn tokens_of_another_issuer_give_the_roles_that_its_words_stand_for() {
    let Some(provider) = Provider::start().await else { return };
    let external = ExternalOptions {
        issuer: provider.issuer.clone(),
        audience: "safari".to_owned(),
        roles_claim: "realm_access.roles".to_owned(),
        mapping: vec![("wild-engineer".to_owned(), Role::Engineer), ("wild-viewer".to_owned(), Role::Viewer)],
    };
    let options = IdentityOptions { external: Some(external), ..IdentityOptions::default() };
    let served = Served::start(Engine::Sqlite, options).await;

    let token = provider.token("client-engineer", "urn:safari").await;
    let principal = served.identity.authenticate(&bearer(&token), None).await.unwrap();
    assert_eq!((&*principal.id, principal.how), ("oidc:client-engineer", How::External));
    assert!(principal.roles.may(Permission::ModelsPromote) && !principal.roles.may(Permission::UsersManage));
    assert_eq!(served.get("/auth/me", &token).await.status, 200);

    let viewer = provider.token("client-viewer", "urn:safari").await;
    let principal = served.identity.authenticate(&bearer(&viewer), None).await.unwrap();
    assert!(principal.roles.may(Permission::RunsRead) && !principal.roles.may(Permission::RunsWrite));

    // Known to the issuer, and nobody here.
    let stranger = provider.token("client-stranger", "urn:safari").await;
    assert_eq!(served.get("/auth/me", &stranger).await.status, 403);

    let other = provider.token("client-engineer", "urn:other").await;
    let (head, rest) = token.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    let (_, other_rest) = viewer.split_once('.').unwrap();
    let (viewer_body, _) = other_rest.split_once('.').unwrap();
    for (what, bad) in [
        ("another audience", other),
        ("another's claims", format!("{head}.{viewer_body}.{signature}")),
        ("no signature", format!("{head}.{body}.")),
    ] {
        assert_eq!(served.get("/auth/me", &bad).await.status, 401, "{what}");
    }
}
