//! Which model answers. Requests keep the one that they began with; a switch is one exchange of a pointer, so it lies
//! between two requests and no request waits for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Served;
use crate::detections::ModelName;
use crate::metrics::Metrics;
use crate::{Error, Result};

/// What a candidate is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CandidateMode {
    /// It answers its share of the requests.
    Canary,
    /// It looks at its share of the pictures besides; its answers are only counted.
    Shadow,
}

/// A second model.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The model.
    pub model: Arc<Served>,
    /// What it is asked for.
    pub mode: CandidateMode,
    /// Share of the requests, 0 to 100.
    pub percent: u8,
    /// When it goes away by itself; none if it stays until it is taken away.
    pub until: Option<Instant>,
}

/// A model that was not taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Refused {
    /// What names it.
    pub source: String,
    /// Why.
    pub reason: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: DateTime<Utc>,
}

/// How the models stand, for people and programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelStatus {
    /// Who answers; none while the first is being loaded.
    pub current: Option<ModelName>,
    /// Since when `current` could answer.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub loaded_at: Option<DateTime<Utc>>,
    /// The one before, to go back to.
    pub previous: Option<ModelName>,
    /// The second one.
    pub candidate: Option<CandidateStatus>,
    /// The last that was not taken.
    pub refused: Option<Refused>,
}

/// A candidate, for people and programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CandidateStatus {
    /// The model.
    pub model: ModelName,
    /// What it is asked for.
    pub mode: CandidateMode,
    /// Share of the requests, 0 to 100.
    #[schema(maximum = 100)]
    pub percent: u8,
}

#[derive(Debug, Clone, Default)]
struct State {
    current: Option<Arc<Served>>,
    previous: Option<Arc<Served>>,
    candidate: Option<Candidate>,
    refused: Option<Refused>,
    /// What a rollback led away from: it is not taken again until it is named anew.
    rejected: Option<String>,
}

/// The models in memory.
#[derive(Debug)]
pub struct Slot {
    state: ArcSwap<State>,
    /// Held for a change; never while anything waits.
    changing: Mutex<()>,
    metrics: Metrics,
}

impl Slot {
    /// Empty.
    pub fn new(metrics: Metrics) -> Self {
        Self { state: ArcSwap::default(), changing: Mutex::new(()), metrics }
    }

    /// The model that answers a request. `key` decides for a canary, so that a camera stays with one model; without one,
    /// chance does.
    ///
    /// # Errors
    /// [`Error::Loading`].
    pub fn pick(&self, key: Option<&str>) -> Result<Arc<Served>> {
        let state = self.state.load();
        if let Some(Candidate { model, mode: CandidateMode::Canary, percent, .. }) = state.candidate()
            && falls_in(*percent, key)
        {
            return Ok(Arc::clone(model));
        }
        state.current.clone().ok_or(Error::Loading)
    }

    /// The model that is to look at the same picture besides, by chance.
    pub fn shadow(&self) -> Option<Arc<Served>> {
        let state = self.state.load();
        match state.candidate() {
            Some(Candidate { model, mode: CandidateMode::Shadow, percent, .. }) if falls_in(*percent, None) => {
                Some(Arc::clone(model))
            }
            _ => None,
        }
    }

    /// The model that answers now.
    pub fn current(&self) -> Option<Arc<Served>> {
        self.state.load().current.clone()
    }

    /// All models in memory.
    pub fn all(&self) -> Vec<Arc<Served>> {
        let state = self.state.load();
        let candidate = state.candidate.as_ref().map(|candidate| &candidate.model);
        [state.current.as_ref(), state.previous.as_ref(), candidate].into_iter().flatten().cloned().collect()
    }

    /// How they stand.
    pub fn status(&self) -> ModelStatus {
        let state = self.state.load();
        let candidate = state.candidate();
        ModelStatus {
            current: state.current.as_ref().map(|served| served.name.clone()),
            loaded_at: state.current.as_ref().map(|served| served.loaded_at),
            previous: state.previous.as_ref().map(|served| served.name.clone()),
            candidate: candidate.map(|candidate| CandidateStatus {
                model: candidate.model.name.clone(),
                mode: candidate.mode,
                percent: candidate.percent,
            }),
            refused: state.refused.clone(),
        }
    }

    /// Whether what `source` names is served, or was rolled back from or refused and is not to be tried again.
    pub fn knows(&self, source: &str) -> bool {
        let state = self.state.load();
        state.current.as_ref().is_some_and(|served| served.name.source == source)
            || state.rejected.as_deref() == Some(source)
            || state.refused.as_ref().is_some_and(|refused| refused.source == source)
    }

    /// Lets `next` answer from now on, and keeps the one before.
    pub fn switch(&self, next: Arc<Served>) {
        self.change(|state| {
            state.previous = state.current.replace(next);
            state.refused = None;
            state.rejected = None;
        });
        self.metrics.swaps.with_label_values(&["switched"]).inc();
    }

    /// Lets a model that is in memory already answer from now on, if `source` names one: the candidate, or the one before.
    /// Gives whether there is one.
    pub fn take(&self, source: &str) -> bool {
        let mut taken = false;
        self.change(|state| {
            let candidate = state.candidate().map(|candidate| &candidate.model);
            let in_memory = [candidate, state.previous.as_ref()];
            let next = in_memory.into_iter().flatten().find(|served| served.name.source == source).cloned();
            let Some(next) = next else { return };
            if state.candidate.as_ref().is_some_and(|candidate| candidate.model.name.source == source) {
                state.candidate = None;
            }
            state.previous = state.current.replace(next);
            state.refused = None;
            state.rejected = None;
            taken = true;
        });
        if taken {
            self.metrics.swaps.with_label_values(&["switched"]).inc();
        }
        taken
    }

    /// Notes a model that was not taken.
    pub fn refuse(&self, source: &str, reason: String) {
        let refused = Refused { source: source.to_owned(), reason, at: Utc::now() };
        self.change(|state| state.refused = Some(refused.clone()));
        self.metrics.swaps.with_label_values(&["refused"]).inc();
    }

    /// Forgets what was rolled back from and refused, so that it is tried when it is named.
    pub fn forgive(&self) {
        self.change(|state| (state.rejected, state.refused) = (None, None));
    }

    /// Lets the model before answer again, at once.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is none.
    pub fn roll_back(&self) -> Result<()> {
        let mut result = Ok(());
        self.change(|state| match state.previous.take() {
            Some(previous) => {
                let left = state.current.replace(previous);
                state.rejected = left.as_ref().map(|left| left.name.source.clone());
                state.previous = left;
            }
            None => result = Err(Error::Conflict("there is no model to go back to".to_owned())),
        });
        if result.is_ok() {
            self.metrics.swaps.with_label_values(&["rolled_back"]).inc();
        }
        result
    }

    /// Sets or removes the second model.
    pub fn set_candidate(&self, candidate: Option<Candidate>) {
        self.change(|state| state.candidate = candidate.clone());
    }

    /// Gives the second model another share, if `source` names it. Gives whether it does.
    pub fn set_share(&self, source: &str, mode: CandidateMode, percent: u8, stays: Option<Duration>) -> bool {
        let mut found = false;
        self.change(|state| {
            let there = state.candidate.as_mut().filter(|candidate| candidate.model.name.source == source);
            if let Some(candidate) = there {
                (candidate.mode, candidate.percent) = (mode, percent);
                candidate.until = stays.map(|stays| Instant::now() + stays);
                found = true;
            }
        });
        found
    }

    /// Frees the memory of a second model whose time is over.
    pub fn forget_candidate(&self) {
        let state = self.state.load();
        if state.candidate.is_some() && state.candidate().is_none() {
            drop(state);
            self.change(|state| {
                if state.candidate().is_none() {
                    state.candidate = None;
                }
            });
        }
    }

    /// Lets the second model answer everything.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is none.
    pub fn promote(&self) -> Result<()> {
        let candidate = self.state.load().candidate().cloned();
        let candidate = candidate.ok_or_else(|| Error::Conflict("there is no candidate".to_owned()))?;
        self.set_candidate(None);
        self.switch(candidate.model);
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let _guard = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = self.state.load().as_ref().clone();
        change(&mut next);
        self.metrics.model.reset();
        let candidate = next.candidate.as_ref().map(|candidate| &candidate.model);
        for (role, served) in
            [("current", &next.current), ("previous", &next.previous), ("candidate", &candidate.cloned())]
        {
            if let Some(served) = served {
                self.metrics.model.with_label_values(&[&served.name.version, &served.name.source, role]).set(1);
            }
        }
        self.state.store(Arc::new(next));
    }
}

impl State {
    /// The second model, unless its time is over.
    fn candidate(&self) -> Option<&Candidate> {
        self.candidate.as_ref().filter(|candidate| candidate.until.is_none_or(|until| Instant::now() < until))
    }
}

fn falls_in(percent: u8, key: Option<&str>) -> bool {
    let place = match key {
        Some(key) => u64::from(<sha2::Sha256 as sha2::Digest>::digest(key.as_bytes())[0]) * 100 / 256,
        None => rand::rng().random_range(0..100),
    };
    place < u64::from(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_key_are_fixed_and_about_right() {
        let cameras: Vec<String> = (0..2000).map(|number| format!("camera {number}")).collect();
        let taken = cameras.iter().filter(|camera| falls_in(10, Some(camera))).count();
        assert!((140..260).contains(&taken), "{taken}");
        assert_eq!(falls_in(50, Some("gate")), falls_in(50, Some("gate")));
        assert!(!falls_in(0, Some("gate")) && falls_in(100, Some("gate")));
        assert!(!falls_in(0, None) && falls_in(100, None));
    }

    #[test]
    fn an_empty_slot_is_loading_and_has_nothing_to_go_back_to() {
        let slot = Slot::new(Metrics::new().expect("metrics"));
        assert!(matches!(slot.pick(None), Err(Error::Loading)));
        assert!(matches!(slot.roll_back(), Err(Error::Conflict(_))));
        slot.refuse("models:/wildlife/9", "it is broken".to_owned());
        assert!(slot.knows("models:/wildlife/9"));
        slot.forgive();
        assert!(!slot.knows("models:/wildlife/9"));
    }
}
