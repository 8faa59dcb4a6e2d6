//! `safari login`: a token for a server, kept in the home.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use platform::config::Config;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use crate::credentials::{keep, server_of};
use crate::error::{Error, Result};
use crate::runs::print;
use crate::user::password;

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Who
    #[arg(long, value_name = "NAME", env = "USER")]
    user: String,
    /// How many days the token lasts
    #[arg(long, value_name = "N", default_value_t = 30)]
    days: u32,
}

#[derive(Deserialize)]
struct Access {
    access_token: String,
}

#[derive(Deserialize)]
struct Made {
    token: String,
}

/// Asks for a password, and the server for a token.
pub(crate) async fn run(args: LoginArgs, config: &Config) -> Result<ExitCode> {
    let base = Url::parse(&config.server.url).map_err(|_| Error::NoServer)?;
    let server = server_of(&base);
    let password = password(false)?;
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(60))
        .build()
        .map_err(|error| Error::ServerUnreachable { server: server.clone(), reason: error.to_string() })?;
    let login = json!({ "name": args.user, "password": password });
    let access: Access = ask(client.post(format!("{server}/auth/login")), &login, &server).await?;
    let wanted = json!({ "name": "safari login", "days": args.days });
    let request = client.post(format!("{server}/auth/tokens")).bearer_auth(&access.access_token);
    let made: Made = ask(request, &wanted, &server).await?;
    keep(server.clone(), &made.token, &config.home)?;
    print(&format!("{} is known to {server} for {} days", args.user, args.days))
}

async fn ask<T: DeserializeOwned>(request: reqwest::RequestBuilder, body: &impl Serialize, server: &str) -> Result<T> {
    let unreachable = |error: reqwest::Error| Error::ServerUnreachable {
        server: server.to_owned(),
        reason: error.without_url().to_string(),
    };
    let body = serde_json::to_vec(body).unwrap_or_default();
    let answer = request.header("content-type", "application/json").body(body).send().await.map_err(unreachable)?;
    let status = answer.status();
    let bytes = answer.bytes().await.map_err(unreachable)?;
    if status.is_success() {
        let what = |error| format!("something else ({error})");
        return serde_json::from_slice(&bytes)
            .map_err(|error| Error::NoSafariServer { server: server.to_owned(), what: what(error) });
    }
    // Both the API's form and the registry's.
    let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    match problem["detail"].as_str().or_else(|| problem["message"].as_str()) {
        Some(_) if status == 404 => {
            Err(Error::Refused(format!("identity is off at {server}: there is no need to log in")))
        }
        Some(words) => Err(Error::Refused(words.to_owned())),
        None => Err(Error::NoSafariServer { server: server.to_owned(), what: status.to_string() }),
    }
}
