//! Follows an alias: what it names next is loaded beside, checked, and switched to.

use std::time::Duration;

use tokio::sync::watch as signal;
use tracing::{debug, warn};

use crate::app::App;
use crate::{Error, Result};

/// Looks now at what the source names, and switches if that is new. `again` tries what was refused or rolled back from.
/// Gives whether there was a switch.
///
/// # Errors
/// The registry does not answer, or the model cannot be used. What is served stays.
pub async fn refresh(app: &App, again: bool) -> Result<bool> {
    let _guard = app.inner.loading.lock().await;
    if again {
        app.inner.slot.forgive();
    }
    let source = &app.inner.options.model;
    let named = source.names(&app.inner.config).await?;
    if app.inner.slot.knows(&named) {
        return Ok(false);
    }
    // The candidate of a rollout that has ended, or the version before one that was undone.
    if app.inner.slot.take(&named) {
        return Ok(true);
    }
    let loaded = async {
        let fetched = source.fetch(&app.inner.config).await?;
        app.inner.loader.load(&fetched).await
    };
    match loaded.await {
        Ok(served) => {
            app.inner.slot.switch(served);
            Ok(true)
        }
        Err(error) => {
            warn!(source = %named, %error, "a model is not taken; the one before goes on");
            // A server that does not answer is no fault of the model.
            if !matches!(error, Error::Upstream(_)) {
                app.inner.slot.refuse(&named, error.to_string());
            }
            Err(error)
        }
    }
}

/// Looks every `every`, until `stop`.
pub async fn watch(app: App, every: Duration, mut stop: signal::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        match refresh(&app, false).await {
            Ok(switched) => debug!(switched, "looked at what the alias names"),
            Err(error) => warn!(%error, "what the alias names cannot be had; the model before goes on"),
        }
    }
}
