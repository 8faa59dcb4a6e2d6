//! A program without libtorch runs no networks, wherever they are asked for.

use std::path::Path;

use super::DeviceChoice;
use crate::{Error, Result};

/// A place where networks would run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
}

/// Says that there are no networks.
pub fn choose(_choice: DeviceChoice, _cuda_folder: Option<&Path>) -> Result<Device> {
    Err(Error::NoNetworks)
}

/// There is nothing to limit.
pub fn limit_gpu_memory(_fraction: f64) {}
