//! Guides: a tutorial, a cookbook, and a table for those who know Spark Streaming. Every program
//! in them is compiled and run as a test.

pub mod dstream;

#[doc = include_str!("tutorial.md")]
pub mod tutorial {}

/// One page per question, each with a program that runs.
pub mod cookbook {
    #[doc = include_str!("cookbook/late_data.md")]
    pub mod late_data {}
    #[doc = include_str!("cookbook/idle_partition.md")]
    pub mod idle_partition {}
    #[doc = include_str!("cookbook/replay.md")]
    pub mod replay {}
    #[doc = include_str!("cookbook/sessions.md")]
    pub mod sessions {}
    #[doc = include_str!("cookbook/interval_join.md")]
    pub mod interval_join {}
    #[doc = include_str!("cookbook/absence_alert.md")]
    pub mod absence_alert {}
    #[doc = include_str!("cookbook/dedup.md")]
    pub mod dedup {}
    #[doc = include_str!("cookbook/state_migration.md")]
    pub mod state_migration {}
    #[doc = include_str!("cookbook/custom_source.md")]
    pub mod custom_source {}
    #[doc = include_str!("cookbook/custom_sink.md")]
    pub mod custom_sink {}
    #[doc = include_str!("cookbook/axum_service.md")]
    pub mod axum_service {}
    #[doc = include_str!("cookbook/property_test.md")]
    pub mod property_test {}
}
