//! Tokens that this program sends to servers: `SAFARI_TOKEN`, or what `safari login` has kept in the home.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use platform::identity::TOKEN_VARIABLE;
use url::Url;

use crate::error::{Error, Result};

const FILE: &str = "credentials.json";

/// A server as the file names it: nothing but scheme, host and port.
pub(crate) fn server_of(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The token for a server, if there is one.
pub(crate) fn token_for(server: String, home: &Path) -> Option<String> {
    if let Ok(token) = std::env::var(TOKEN_VARIABLE)
        && !token.is_empty()
    {
        return Some(token);
    }
    read(home).ok()?.remove(&server)
}

/// Keeps a token for a server, readable for its owner alone.
pub(crate) fn keep(server: String, token: &str, home: &Path) -> Result<()> {
    let path = home.join(FILE);
    let mut tokens = read(home)?;
    tokens.insert(server, token.to_owned());
    let text = serde_json::to_vec_pretty(&tokens).unwrap_or_default();
    let draft = home.join(format!("{FILE}.draft-{}", std::process::id()));
    let written = (|| {
        std::fs::create_dir_all(home)?;
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&draft, &path)
    })();
    written.map_err(|source| Error::Credentials { path, source })
}

fn read(home: &Path) -> Result<BTreeMap<String, String>> {
    let path = home.join(FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(Error::Credentials { path, source }),
    };
    serde_json::from_slice(&text).map_err(|error| Error::Credentials { path, source: error.into() })
}
