//! The allocator's memory.

/// Gives the heap's unused pages back to the kernel: for long-lived processes that were busy and are idle now.
pub fn give_back() {
    // SAFETY: `malloc_trim(3)` has no preconditions.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
