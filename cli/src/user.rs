//! `safari user` and `safari roles`: who may ask servers, and for what.

use std::io::{BufRead, IsTerminal, Write};
use std::process::{Command, ExitCode, Stdio};

use clap::{Args, Subcommand};
use platform::config::Config;
use platform::identity::{Identity, Manager, Role, Roles, Secret};
use serde_json::json;

use crate::error::{Error, Result};
use crate::model::{Format, print_json};
use crate::runs::print;

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add somebody
    Add {
        /// Letters, digits and . _ - @ +
        name: String,
        /// What they may do, see `safari roles`; may be given several times
        #[arg(long, value_name = "ROLE", required = true, value_parser = role)]
        role: Vec<Role>,
        /// Make a password and print it
        #[arg(long)]
        generate: bool,
    },
    /// Show everybody
    List {
        /// How it is told
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Let somebody do nothing any more; their tokens and sessions rest
    Disable {
        /// Who
        name: String,
    },
    /// Undo `disable`
    Enable {
        /// Who
        name: String,
    },
    /// Change somebody's password; ends their sessions
    Password {
        /// Who
        name: String,
        /// Make a password and print it
        #[arg(long)]
        generate: bool,
    },
    /// Give somebody other roles
    Roles {
        /// Who
        name: String,
        /// What they may do; may be given several times
        #[arg(long, value_name = "ROLE", required = true, value_parser = role)]
        role: Vec<Role>,
    },
    /// Show what was done with accounts and tokens, the newest first
    Audit {
        /// How many deeds
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
        /// How it is told
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RolesArgs {
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does what the command says.
pub(crate) async fn run(command: UserCommand, config: &Config) -> Result<ExitCode> {
    let identity = Identity::manage(config).await?;
    match command {
        UserCommand::Add { name, role, generate } => {
            let password = password(generate)?;
            let roles: Roles = role.into_iter().collect();
            let user = identity.add_user(&name, &password, roles, by()).await?;
            print(&format!("{} is {roles}", user.name))
        }
        UserCommand::List { format } => list(&identity, format).await,
        UserCommand::Disable { name } => {
            identity.disable_user(&name, true, by()).await?;
            print(&format!("{name} may do nothing any more"))
        }
        UserCommand::Enable { name } => {
            identity.disable_user(&name, false, by()).await?;
            print(&format!("{name} may do again what their roles say"))
        }
        UserCommand::Password { name, generate } => {
            identity.set_password(&name, &password(generate)?, by()).await?;
            print(&format!("{name} has a new password"))
        }
        UserCommand::Roles { name, role } => {
            let roles: Roles = role.into_iter().collect();
            identity.set_roles(&name, roles, by()).await?;
            print(&format!("{name} is {roles}"))
        }
        UserCommand::Audit { limit, format } => audit(&identity, limit, format).await,
    }
}

/// The table of roles.
pub(crate) fn roles(args: RolesArgs) -> Result<ExitCode> {
    if matches!(args.format, Format::Json) {
        let row = |role: Role| json!({ "role": role, "help": role.help(), "permissions": role.permissions() });
        return print_json(&Role::ALL.map(row));
    }
    for role in Role::ALL {
        let permissions: Vec<&str> = role.permissions().iter().map(|permission| permission.as_str()).collect();
        print(&format!("{:<10} {}\n           {}", role.as_str(), role.help(), permissions.join(" ")))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The one who manages, for the audit: whoever has this machine's files.
pub(crate) fn by() -> Manager<'static> {
    Manager { name: "local", address: None }
}

/// For clap.
pub(crate) fn role(text: &str) -> std::result::Result<Role, String> {
    Role::read(text).ok_or_else(|| platform::Error::RoleUnknown(text.to_owned()).to_string())
}

/// A password: made, typed without being shown, or a line of standard input.
pub(crate) fn password(generate: bool) -> Result<String> {
    if generate {
        let made = Secret::random("").expose().to_owned();
        print(&made)?;
        return Ok(made);
    }
    let stdin = std::io::stdin();
    let terminal = stdin.is_terminal();
    if terminal {
        // Not standard output, which may go into a file.
        eprint!("Password: ");
        let _ = std::io::stderr().flush();
        echo("-echo");
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if terminal {
        echo("echo");
        eprintln!();
    }
    match (read, line.trim_end_matches(['\r', '\n'])) {
        (Ok(_), text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(Error::NoPassword),
    }
}

/// Without `stty` what is typed is shown.
fn echo(setting: &str) {
    let _ = Command::new("stty").arg(setting).stdin(Stdio::inherit()).status();
}

async fn list(identity: &Identity, format: Format) -> Result<ExitCode> {
    let users = identity.store().users().await?;
    if matches!(format, Format::Json) {
        let user = |user: &platform::identity::store::User| json!({ "name": user.name, "roles": user.roles.names(), "disabled": user.disabled_at.is_some() });
        return print_json(&users.iter().map(user).collect::<Vec<_>>());
    }
    for user in users {
        let state = if user.disabled_at.is_some() { "disabled" } else { "" };
        print(format!("{:<24} {:<32} {state}", user.name, user.roles.to_string()).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn audit(identity: &Identity, limit: u32, format: Format) -> Result<ExitCode> {
    let events = identity.store().audits(limit).await?;
    if matches!(format, Format::Json) {
        return print_json(&events);
    }
    for event in events {
        let at = chrono::DateTime::from_timestamp_millis(event.at).unwrap_or_default();
        let at = at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let (actor, action, subject) = (event.actor, event.action, event.subject);
        print(format!("{at} {action:<18} {subject:<36} {actor:<16} {} {}", event.address, event.detail).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}
