//! `safari token`: secrets of people and services.

use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use pipeline::dag::parse_duration;
use platform::Error as PlatformError;
use platform::config::Config;
use platform::identity::store::{ApiToken, NewToken};
use platform::identity::{Identity, Role, Roles};
use serde_json::json;

use crate::error::Result;
use crate::model::{Format, print_json};
use crate::runs::print;
use crate::user::{by, role};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, once
    Create {
        /// What it may do, see `safari roles`; may be given several times
        #[arg(long, value_name = "ROLE", required = true, value_parser = role)]
        role: Vec<Role>,
        /// How long it lasts, such as 90d
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        expires: Duration,
        /// What it is for
        #[arg(long, default_value = "service")]
        name: String,
        /// Whose it is; it can do no more than they can [default: nobody's, a service's]
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// How it is told
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show all tokens, without what lets anybody in
    List {
        /// How it is told
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Refuse a token from now on
    Revoke {
        /// Its id, as `safari token list` shows it
        id: String,
        /// It is the `jti` of an access token
        #[arg(long)]
        access: bool,
    },
    /// Sign access tokens with a new key; those that are about stay valid
    RotateKey,
}

/// Does what the command says.
pub(crate) async fn run(command: TokenCommand, config: &Config) -> Result<ExitCode> {
    let identity = Identity::manage(config).await?;
    match command {
        TokenCommand::Create { role, expires, name, user, format } => {
            let owner = match &user {
                Some(name) => {
                    let owner = identity.store().user(name).await?;
                    Some(owner.ok_or_else(|| PlatformError::UserUnknown(name.clone()))?.id)
                }
                None => None,
            };
            let roles: Roles = role.into_iter().collect();
            let millis = i64::try_from(expires.as_millis()).unwrap_or(i64::MAX);
            let expires_at = Utc::now().timestamp_millis().saturating_add(millis);
            let new = NewToken { name: &name, user: owner.as_deref(), roles, expires_at };
            let (id, secret) = identity.create_token(&new, by()).await?;
            match format {
                Format::Json => print_json(&json!({ "id": id, "token": secret.expose(), "expires_at": expires_at })),
                Format::Table => print(secret.expose()),
            }
        }
        TokenCommand::List { format } => list(&identity.tokens(None).await?, format),
        TokenCommand::Revoke { id, access: true } => {
            identity.revoke_access_token(&id, by()).await?;
            print(&format!("access token {id} is refused"))
        }
        TokenCommand::Revoke { id, access: false } => {
            identity.revoke_token(&id, None, by()).await?;
            print(&format!("token {id} is refused"))
        }
        TokenCommand::RotateKey => print(&format!("key {} signs", identity.rotate_key(by()).await?)),
    }
}

fn list(tokens: &[ApiToken], format: Format) -> Result<ExitCode> {
    if matches!(format, Format::Json) {
        let token = |token: &ApiToken| {
            json!({
                "id": token.id,
                "name": token.name,
                "prefix": token.prefix,
                "user": token.owner.as_ref().map(|owner| &owner.name),
                "roles": token.roles.names(),
                "expires_at": token.expires_at,
                "revoked_at": token.revoked_at,
            })
        };
        return print_json(&tokens.iter().map(token).collect::<Vec<_>>());
    }
    let now = Utc::now().timestamp_millis();
    for token in tokens {
        let until = DateTime::from_timestamp_millis(token.expires_at).unwrap_or_default().format("%Y-%m-%d");
        let state = if token.is_valid(now) { "" } else { "refused" };
        let owner = token.owner.as_ref().map_or("-", |owner| owner.name.as_str());
        let ApiToken { id, name, prefix, roles, .. } = token;
        print(format!("{id} {prefix}… {name:<20} {owner:<16} {until} {roles} {state}").trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}
