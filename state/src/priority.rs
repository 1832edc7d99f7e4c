//! How background work keeps out of the way.

/// How much nicer than its program a thread is that works in the background.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

/// Lets other threads go first from now on, where there are not enough processors for all: for a
/// thread that calls [`Store::maintain`](crate::Store::maintain). It gets on all the same, and
/// `log_tail_limit` holds up whoever is too fast for it.
///
/// On Linux, where each thread has a priority of its own; elsewhere it does nothing.
pub fn work_in_background() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICER) {
        tracing::debug!(%error, "the priority of a thread stays as it is");
    }
}
