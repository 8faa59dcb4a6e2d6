//! What is asked of the system's allocator, so that a job's memory does not grow with the number of its media.
#![allow(unsafe_code, reason = "the allocator that libtorch uses can only be told through libc")]

/// Has the allocator use two arenas instead of eight a core. To be called before threads start.
///
/// libtorch allocates and frees megabytes on every thread that runs a network, and what each arena keeps of them is lost to
/// the others: the peak memory of a job was an eighth higher without this.
pub fn limit_arenas() {
    // SAFETY: mallopt takes two integers, and changes a setting of the allocator under its own lock.
    #[cfg(target_env = "gnu")]
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
}

/// Returns freed memory to the system; some milliseconds. Worth a call where one kind of work ends and another begins,
/// because what the first left in pieces is of little use to the second.
pub fn release() {
    // SAFETY: malloc_trim only gives back pages that no allocation uses, under the allocator's own locks.
    #[cfg(target_env = "gnu")]
    let _ = unsafe { libc::malloc_trim(0) };
}
