//! What is asked of the system's allocator, for libtorch's sake: it allocates and frees megabytes in every layer.
#![allow(unsafe_code, reason = "the allocator that libtorch uses can only be told through libc")]

/// Blocks up to this size come from the arenas, whose pages stay mapped; larger ones would be zeroed by the kernel anew
/// for each layer of each picture. It is the most that the allocator takes.
#[cfg(all(target_env = "gnu", feature = "torch"))]
const LARGEST_BLOCK_OF_ARENAS: i32 = 32 << 20;

/// Free bytes at the top of an arena that are not given back with each large block that is freed, see [`release`].
#[cfg(all(target_env = "gnu", feature = "torch"))]
const KEPT_AT_THE_TOP: i32 = 256 << 20;

#[cfg(all(target_env = "gnu", feature = "torch"))]
const SETTINGS: &[(i32, i32)] = &[
    (libc::M_ARENA_MAX, 2),
    (libc::M_MXFAST, 0),
    (libc::M_MMAP_THRESHOLD, LARGEST_BLOCK_OF_ARENAS),
    (libc::M_TRIM_THRESHOLD, KEPT_AT_THE_TOP),
];
#[cfg(all(target_env = "gnu", not(feature = "torch")))]
const SETTINGS: &[(i32, i32)] = &[(libc::M_ARENA_MAX, 2)];

/// Sets the allocator up for networks. To be called before threads start.
///
/// Two arenas instead of eight a core: what each keeps of freed blocks is lost to the others, and the peak memory of a
/// job was an eighth higher without. No bins for quick reuse of tiny blocks: with them every large block that is freed
/// makes the allocator sweep all of these together, which took a thirtieth of the processor's time.
///
/// A program without networks is told the first alone.
pub fn tune() {
    #[cfg(target_env = "gnu")]
    for (setting, value) in SETTINGS {
        // SAFETY: mallopt takes two integers, and changes a setting of the allocator under its own lock.
        let _ = unsafe { libc::mallopt(*setting, *value) };
    }
}

/// Returns freed memory to the system; some milliseconds. Worth a call where one kind of work ends and another begins,
/// because what the first left in pieces is of little use to the second.
pub fn release() {
    // SAFETY: malloc_trim only gives back pages that no allocation uses, under the allocator's own locks.
    #[cfg(target_env = "gnu")]
    let _ = unsafe { libc::malloc_trim(0) };
}
