//! How much memory a process of the broker keeps that it has freed.
#![expect(unsafe_code, reason = "the allocator's settings are calls of C")]
#![expect(clippy::disallowed_methods, reason = "so are its variables, which are not ours to define")]

/// Bodies above this size get memory of their own, and it is given back at once.
const OWN: i32 = 4 << 20;

/// What is free at the end of the heap is given back when it is more than this.
const KEPT: i32 = 8 << 20;

/// Keeps enough for the bodies that follow.
///
/// glibc gives memory back when twice the size of the largest body is free, which is after each request of
/// 1 MiB: it then has the kernel fill every page with zeros for the next one, which costs more than all copies of
/// such a body together. See `mallopt`(3), `M_MMAP_THRESHOLD` and `M_TRIM_THRESHOLD`. An operator who has chosen by the
/// variables that it names has chosen.
pub(crate) fn keep_for_next_bodies() {
    let variables = ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"];
    if variables.into_iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [(libc::M_MMAP_THRESHOLD, OWN), (libc::M_TRIM_THRESHOLD, KEPT)] {
        // SAFETY: it takes two numbers. The process has one thread: it was forked a moment ago.
        if unsafe { libc::mallopt(parameter, value) } == 0 {
            tracing::debug!(parameter, value, "the allocator does not take it");
        }
    }
}
