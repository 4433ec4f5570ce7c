//! Read-copy-update: how the control thread changes what the workers read, without a lock on their side.
//!
//! - [`domain()`] ties one [`Publisher`] to its [`Reader`]s. The publisher swaps one pointer; each reader says once
//!   per burst loop that it holds nothing of the old value any more (a *quiescent state*); when all have said so,
//!   the old value is freed. Readers only ever do plain loads, and one store after each publication.
//! - [`map`] is a hash map for published values: taking an immutable snapshot of it and changing one entry
//!   are the same work among 10 and among 100,000 entries.
//!
//! The two are independent. A published value is usually a struct of [`map::Snapshot`]s; when its grace period is
//! over, dropping it frees exactly what its successor replaced.
#![allow(unsafe_code)]

mod domain;
#[cfg(test)]
mod domain_loom;
pub mod map;
#[cfg(test)]
mod map_tests;
#[cfg(test)]
mod tests;

pub use domain::{Publisher, Reader, domain};

/// What `domain` synchronises with. The model test compiles the same file against loom's versions.
mod sync {
    pub(super) use std::sync::Arc;
    pub(super) use std::sync::Mutex;
    pub(super) use std::sync::atomic::{AtomicPtr, AtomicU64, fence};
}
