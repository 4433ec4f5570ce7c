//! Counters and gauges with one writer and any number of readers.

use super::sync::{AtomicU32, AtomicU64};
use std::sync::atomic::Ordering::Relaxed;

/// A counter with one writer.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    #[inline(always)]
    pub fn add(&self, by: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(by), Relaxed);
    }

    #[inline]
    pub fn sub(&self, by: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(by), Relaxed);
    }

    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
}

/// A gauge with one writer.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Gauge(AtomicU32);

impl Gauge {
    #[inline]
    pub fn inc(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }

    #[inline]
    pub fn dec(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(1), Relaxed);
    }

    #[inline]
    pub fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }

    #[inline]
    pub fn set(&self, value: u32) {
        self.0.store(value, Relaxed);
    }
}
