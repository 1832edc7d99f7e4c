//! Bugs put in on purpose, to see that the tests see them. They are there only in a build with
//! the feature `planted`, one at a time, by the environment variable `PLANTED`.

/// Every planted bug, with the test that catches it.
pub const PLANTED: &[(&str, &str)] = &[
    ("log-cut-early", "crash"),
    ("commit-not-synced", "crash"),
    ("tail-not-rewritten", "crash"),
    ("torn-tail-accepted", "log::tests"),
    ("other-life-accepted", "log::tests"),
    ("dirty-lost-on-eviction", "table::tests"),
    ("evicted-before-stored", "table::tests"),
    ("tombstone-dropped-early", "table::tests"),
    ("buried-read-again", "table::tests"),
    ("cleared-come-back", "conformance"),
    ("copy-on-write-skipped", "table::tests"),
    ("freeze-without-check", "freeze"),
    ("log-never-missed", "freeze"),
    ("file-in-use-opened", "base"),
    ("restore-not-marked", "snapshots"),
    ("snapshot-file-by-name", "snapshots"),
    ("base-ahead-of-manifest", "snapshots"),
    ("lost-timer-on-restore", "crash"),
    ("watermark-not-restored", "partitions"),
    ("position-before-state", "crash"),
    ("published-before-commit", "crash"),
    ("outbox-not-resent", "crash"),
    ("sink-committed-twice", "sink::files"),
    ("rename-not-synced", "sink::files"),
    ("ttl-by-wall-clock", "ttl"),
    ("fragments-overwrite", "rescale"),
    ("error-swallowed", "panics"),
    ("stop-flushes-windows", "rescale"),
    ("schema-ignored", "evolution"),
    ("ttl-refreshed-by-reads", "keyed"),
    ("dedup-refreshed", "keyed"),
    ("timers-after-events", "keyed"),
    ("over-excludes-peers", "keyed_law"),
    ("broadcast-lost-on-restore", "keyed_broadcast"),
    ("clock-timer-lost-on-restore", "keyed_clock"),
    ("idle-partition-drags-time-back", "partitions"),
    ("dropped-rows-move-promise", "partitions"),
    ("skewed-event-moves-promise", "skew"),
    ("lead-limit-deadlock", "alignment"),
    ("outer-row-twice", "joins_law"),
    ("interval-off-by-one", "joins_law"),
    ("outer-row-left-time", "joins_law"),
    ("join-evicts-early", "joins"),
    ("false-null-same-tick", "joins_law"),
    ("as-of-takes-later", "joins_law"),
    ("inclusive-watermark", "windows_law"),
    ("touching-sessions-merged", "windows_traps"),
    ("hopping-below-zero", "windows_law"),
    ("late-judged-per-tick", "windows_law"),
    ("late-bridge-merged", "windows_traps"),
    ("pane-index-reset", "windows_traps"),
    ("pane-final-early", "panes_law"),
    ("session-timer-lost", "windows_law"),
    ("calendar-day-24h", "windows_traps"),
    ("window-cleanup-early", "windows_law"),
];

/// Whether this bug is planted in this run.
#[cfg(feature = "planted")]
#[must_use]
pub fn planted(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("PLANTED").ok()).as_deref() == Some(name)
}

/// Whether this bug is planted in this run: never in this build.
#[cfg(not(feature = "planted"))]
#[must_use]
#[inline(always)]
pub const fn planted(_: &str) -> bool {
    false
}
