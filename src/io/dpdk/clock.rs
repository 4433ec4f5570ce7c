//! Time from the CPU's time-stamp counter: no system call, a few nanoseconds a reading.
//!
//! Every copy of a clock has the same origin, and CPUs that DPDK runs on keep their counters in step
//! (`constant_tsc`, `nonstop_tsc`), so workers may compare times.

use super::Eal;
use crate::units::Time;

/// A span of the time-stamp counter.
pub type Cycles = u64;

/// Reads the time since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Cycles,
    hertz: u64,
    /// Nanoseconds a cycle, as a binary fraction of 32 places.
    scale: u64,
}

impl Clock {
    /// A clock that starts at 0 now.
    pub fn new(_eal: &Eal) -> Clock {
        // SAFETY: the EAL, which measured the frequency, is running.
        let hertz = unsafe { dpdk_ffi::rte_get_tsc_hz() };
        Clock {
            origin: rdtsc(),
            hertz,
            scale: scale(hertz),
        }
    }

    #[inline]
    pub fn now(&self) -> Time {
        self.at(self.cycles())
    }

    /// Cycles since the origin: what a busy ratio is made of.
    #[inline]
    pub fn cycles(&self) -> Cycles {
        rdtsc().saturating_sub(self.origin)
    }

    /// The time at `cycles` after the origin.
    #[inline]
    pub fn at(&self, cycles: Cycles) -> Time {
        Time::from_nanos(nanos(cycles, self.scale))
    }

    /// Cycles a second.
    pub fn hertz(&self) -> u64 {
        self.hertz
    }
}

#[inline]
fn rdtsc() -> Cycles {
    // SAFETY: an instruction without preconditions.
    unsafe { dpdk_ffi::rte_rdtsc() }
}

fn scale(hertz: u64) -> u64 {
    ((1_000_000_000u128 << 32) / u128::from(hertz.max(1))).min(u128::from(u64::MAX)) as u64
}

#[inline]
fn nanos(cycles: Cycles, scale: u64) -> u64 {
    ((u128::from(cycles) * u128::from(scale)) >> 32) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_of_cycles_is_a_year_of_nanoseconds() {
        const YEAR: u64 = 365 * 86_400;
        for hertz in [25_000_000, 1_000_000_000, 2_400_000_000, 5_123_456_789] {
            let year = nanos(YEAR * hertz, scale(hertz));
            let off = year.abs_diff(YEAR * 1_000_000_000);
            assert!(off < 100_000_000, "{hertz} Hz: off by {off} ns in a year");
        }
    }

    #[test]
    fn more_cycles_are_never_less_time() {
        let scale = scale(2_999_999_999);
        let times: Vec<u64> = (0..1000)
            .map(|cycles| nanos(u64::from(u32::MAX) - 500 + cycles, scale))
            .collect();
        assert!(times.is_sorted());
    }
}
