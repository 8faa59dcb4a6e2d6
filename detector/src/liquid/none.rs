//! A program without libtorch has no liquid networks: none can be loaded.

use std::path::Path;

use super::LiquidFrame;
use crate::{Error, Result};

/// The trained networks.
#[derive(Debug)]
pub enum BurstModel {}

/// What is known of a burst so far.
#[derive(Debug, Default)]
pub struct BurstState {}

impl BurstModel {
    /// Says that there are none.
    pub fn load(_path: &Path) -> Result<Self> {
        Err(Error::NoNetworks)
    }

    /// Number of taxa that it was trained for.
    pub fn taxa(&self) -> usize {
        match *self {}
    }

    /// Log probabilities over all taxa for the animal that these frames show, in order of time.
    pub fn judge(&self, _frames: &[LiquidFrame<'_>]) -> Result<Vec<f32>> {
        match *self {}
    }

    /// A burst before its first frame.
    pub fn begin(&self) -> BurstState {
        match *self {}
    }

    /// Adds the burst's next frame.
    pub fn push(&self, _state: BurstState, _frame: LiquidFrame<'_>) -> Result<BurstState> {
        match *self {}
    }

    /// Log probabilities over all taxa after the frames so far; none before the first.
    pub fn answer(&self, _state: &BurstState) -> Result<Option<Vec<f32>>> {
        match *self {}
    }
}
