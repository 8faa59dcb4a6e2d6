//! Judging a burst as a whole: what several looks at one animal say together.
//!
//! [`cell::CfcCell`] is the liquid cell, equal to its published reference. No trained network ships yet: until one
//! does, [`BurstModel`] answers with the mean of the frames' log probabilities, which is also what a trained network has
//! to beat.

pub mod cell;

use crate::sighting::Sighting;
use crate::{Error, Result};

/// One look at an animal within its burst.
#[derive(Debug, Clone, Copy)]
pub struct LiquidFrame<'a> {
    /// What was seen.
    pub sighting: &'a Sighting,
    /// Seconds since the animal was seen last in the burst; 1 for the first look.
    pub gap_seconds: f32,
}

/// Joins the frames of one track.
#[derive(Debug, Clone, Copy, Default)]
pub struct BurstModel;

impl BurstModel {
    /// Log probabilities over all taxa for the animal that `frames` show; they sum to one.
    pub fn judge(&self, frames: &[LiquidFrame<'_>]) -> Result<Vec<f32>> {
        let Some(first) = frames.first() else {
            return Err(Error::Torch(tch::TchError::Torch("a burst without frames cannot be judged".to_owned())));
        };
        let mut mean = vec![0.0_f32; first.sighting.evidence.log_probabilities.len()];
        for frame in frames {
            for (sum, log_probability) in mean.iter_mut().zip(&frame.sighting.evidence.log_probabilities) {
                *sum += log_probability / frames.len() as f32;
            }
        }
        let total: f32 = mean.iter().map(|l| l.exp()).sum();
        Ok(mean.into_iter().map(|l| l - total.ln()).collect())
    }
}
