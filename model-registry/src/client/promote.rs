//! Promotion: endpoints of our own server.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::Client;
use crate::Result;
use crate::promotion::{Approval, ApprovalRequest, Promotion, PromotionRequest, RollbackRequest};

const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

#[derive(Deserialize)]
struct History {
    #[serde(default)]
    promotions: Vec<Promotion>,
}

#[derive(Deserialize)]
struct Approvals {
    #[serde(default)]
    approvals: Vec<Approval>,
}

impl Client {
    /// Moves an alias by compare-and-set, behind gates; gives the row of the audit.
    ///
    /// # Errors
    /// A gate refuses, or somebody else was faster: the words say which and why.
    pub async fn promote(&self, model: &str, request: &PromotionRequest) -> Result<Promotion> {
        self.post(&format!("{}/promotions", model_path(model)), request).await
    }

    /// Moves an alias back to what it named before.
    ///
    /// # Errors
    /// There is nothing to go back to, or somebody else was faster.
    pub async fn roll_back(&self, model: &str, request: &RollbackRequest) -> Result<Promotion> {
        self.post(&format!("{}/rollback", model_path(model)), request).await
    }

    /// Says yes to a version.
    ///
    /// # Errors
    /// The caller has not the role; there is no such version.
    pub async fn approve(&self, model: &str, request: &ApprovalRequest) -> Result<Approval> {
        self.post(&format!("{}/approvals", model_path(model)), request).await
    }

    /// Every move of an alias of a model, and every one that was refused, the newest first.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn promotions(&self, model: &str, alias: Option<&str>, most: u32) -> Result<Vec<Promotion>> {
        let most = most.to_string();
        let mut query = vec![("limit", most.as_str())];
        query.extend(alias.map(|alias| ("alias", alias)));
        let answer: History = self.get(&format!("{}/history", model_path(model)), &query).await?;
        Ok(answer.promotions)
    }

    /// Who said yes to versions of a model.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn approvals(&self, model: &str) -> Result<Vec<Approval>> {
        let answer: Approvals = self.get(&format!("{}/approvals", model_path(model)), &[]).await?;
        Ok(answer.approvals)
    }
}

fn model_path(model: &str) -> String {
    format!("/api/v1/models/{}", segment(model))
}

/// A text as one part of a path.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// A path of files, its slashes kept.
pub(super) fn path(text: &str) -> String {
    text.split('/').map(segment).collect::<Vec<_>>().join("/")
}
