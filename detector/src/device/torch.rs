//! CUDA as libtorch knows it.
#![allow(unsafe_code)]

use std::path::Path;

use tch::Cuda;
pub use tch::Device;
use tracing::{info, warn};

use super::DeviceChoice;
use crate::{Error, Result};

/// libtorch's settings of its allocator on a GPU.
const ALLOCATOR_VARIABLE: &str = "PYTORCH_CUDA_ALLOC_CONF";

const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// The device to use. For CUDA, `libtorch_cuda.so` is loaded from `cuda_folder`, or from where the loader finds it.
pub fn choose(choice: DeviceChoice, cuda_folder: Option<&Path>) -> Result<Device> {
    if choice == DeviceChoice::Cpu {
        return Ok(Device::Cpu);
    }
    let loaded = load_cuda(cuda_folder);
    if loaded.is_ok() && Cuda::is_available() {
        info!(devices = Cuda::device_count(), "CUDA is available");
        return Ok(Device::Cuda(0));
    }
    let reason = match loaded {
        Err(reason) => reason,
        Ok(()) => "libtorch_cuda.so was loaded, but the driver shows no device".to_owned(),
    };
    if choice == DeviceChoice::Cuda {
        return Err(Error::Device(format!(
            "detector.device is cuda, but CUDA cannot be used: {reason}; set detector.cuda_dir to the folder that \
             holds {CUDA_LIBRARY}, or detector.device to cpu"
        )));
    }
    if cuda_folder.is_some() {
        warn!(reason, "CUDA cannot be used; the networks run on the processor");
    }
    Ok(Device::Cpu)
}

/// Lets this process take no more than this share (above 0, at most 1) of a GPU's memory.
///
/// libtorch reads it once, when its CUDA library is loaded. To be called while the process has one thread.
pub fn limit_gpu_memory(fraction: f64) {
    let before = std::env::var(ALLOCATOR_VARIABLE).unwrap_or_default();
    if before.contains("per_process_memory_fraction") {
        return;
    }
    let separator = if before.is_empty() { "" } else { "," };
    // SAFETY: the caller says that no other thread is there that could read the environment meanwhile.
    unsafe {
        std::env::set_var(ALLOCATOR_VARIABLE, format!("{before}{separator}per_process_memory_fraction:{fraction}"))
    };
}

/// Bytes of a GPU's memory that are in use, by all processes; none for the processor, and where CUDA does not say.
pub fn gpu_memory_in_use(device: Device) -> Option<u64> {
    use libloading::os::unix::Library;
    if device == Device::Cpu {
        return None;
    }
    let (mut free, mut total) = (0_usize, 0_usize);
    // SAFETY: the function is CUDA's `cudaMemGetInfo(size_t*, size_t*)`, whose library libtorch has loaded into this
    // process and never unloads; it writes the two numbers and nothing else.
    let status = unsafe {
        let library = Library::this();
        let ask = library.get::<unsafe extern "C" fn(*mut usize, *mut usize) -> i32>(b"cudaMemGetInfo\0").ok()?;
        ask(&raw mut free, &raw mut total)
    };
    (status == 0).then(|| total.saturating_sub(free) as u64)
}

fn load_cuda(folder: Option<&Path>) -> std::result::Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    let path = folder.map_or_else(|| Path::new(CUDA_LIBRARY).to_owned(), |folder| folder.join(CUDA_LIBRARY));
    // SAFETY: loading runs the library's initialisers, which register CUDA kernels with the libtorch_cpu.so that is
    // already in this process; both come from the same libtorch release. It happens before any thread runs a network.
    // RTLD_GLOBAL lets the kernels find each other's symbols, as `import torch` does.
    let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) }.map_err(|error| error.to_string())?;
    // Registered kernels must never be unloaded.
    std::mem::forget(library);
    Ok(())
}
