//! Where the networks run: the processor, or a CUDA device found when the program starts.

#[cfg(not(feature = "torch"))]
mod none;
#[cfg(feature = "torch")]
mod torch;

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

#[cfg(not(feature = "torch"))]
pub use none::{Device, choose, limit_gpu_memory};
#[cfg(feature = "torch")]
pub use torch::{Device, choose, gpu_memory_in_use, limit_gpu_memory};

/// What the configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// CUDA where it can be had, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// CUDA, or an error.
    Cuda,
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            other => Err(Error::Device(format!("detector.device is {other}; it can be auto, cpu or cuda"))),
        }
    }
}
