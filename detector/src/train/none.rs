//! A program without libtorch cannot train.

use std::ops::ControlFlow;

use super::report::Metrics;
use super::{Material, Progress, TrainOptions};
use crate::{Error, Result};

/// Says that there are no networks.
pub fn train(
    _material: &Material,
    _options: &TrainOptions,
    _progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
) -> Result<Metrics> {
    Err(Error::NoNetworks)
}
