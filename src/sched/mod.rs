//! The schedulers.

/// The names that `scheduler` may take in the configuration.
pub const NAMES: &[&str] = &["rr", "wrr", "lc", "wlc", "sh"];
