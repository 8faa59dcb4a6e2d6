//! A program without libtorch has no networks: there is no value of this type, and none can be loaded.

use std::path::Path;

use super::{Embedded, RawBoxes};
use crate::device::Device;
use crate::{Error, Result};

/// Both networks on one device.
#[derive(Debug)]
pub enum Networks {}

impl Networks {
    /// Says that there are none.
    pub fn load(_detector: &Path, _embedder: &Path, _device: Device) -> Result<Self> {
        Err(Error::NoNetworks)
    }

    /// Where they run.
    pub fn device(&self) -> Device {
        match *self {}
    }

    /// Lets each call from this thread use so many threads.
    pub fn use_threads(&self, _threads: i32) {
        match *self {}
    }

    /// Boxes of each picture; every picture is 300 x 300 RGB bytes in rows.
    pub fn boxes(&self, _pictures: &[Vec<u8>]) -> Result<Vec<RawBoxes>> {
        match *self {}
    }

    /// Features and class probabilities of each crop; every crop is 224 x 224 RGB bytes in rows.
    pub fn embed(&self, _crops: &[Vec<u8>]) -> Result<Vec<Embedded>> {
        match *self {}
    }
}
