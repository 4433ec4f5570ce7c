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
    /// Nanoseconds a cycle, as a binary fraction of 32 places.
    scale: u64,
}

impl Clock {
    /// A clock that starts at 0 now.
    pub fn new(_eal: &Eal) -> Clock {
        // SAFETY: the EAL, which measured the frequency, is running.
        let hertz = unsafe { dpdk_sys::rte_get_tsc_hz() };
        Self::from(rdtsc(), hertz)
    }

    /// The same where there is no EAL, by cycles of such a frequency.
    pub fn of_hertz(hertz: u64) -> Clock {
        Self::from(rdtsc(), hertz)
    }

    fn from(origin: Cycles, hertz: u64) -> Clock {
        Clock {
            origin,
            scale: scale(hertz),
        }
    }

    #[inline]
    pub fn now(&self) -> Time {
        self.at(self.cycles())
    }

    /// Cycles since the origin.
    #[inline]
    pub fn cycles(&self) -> Cycles {
        self.cycles_at(rdtsc())
    }

    /// Cycles from the origin to a reading of the counter; 0 to an earlier one.
    #[inline]
    fn cycles_at(&self, reading: Cycles) -> Cycles {
        reading.saturating_sub(self.origin)
    }

    /// The time at `cycles` after the origin.
    #[inline]
    pub fn at(&self, cycles: Cycles) -> Time {
        Time::from_nanos(nanos(cycles, self.scale))
    }
}

#[inline]
fn rdtsc() -> Cycles {
    // SAFETY: an instruction without preconditions.
    unsafe { dpdk_sys::rte_rdtsc() }
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

    /// Where 32 bits of milliseconds, and half of them, are over; where a span of 53 bits of nanoseconds is; and beyond.
    const DAYS: [u64; 8] = [1, 25, 50, 75, 100, 105, 365, 3 * 365];
    const RATES: [u64; 5] = [
        1_000_000_000,
        2_199_998_000,
        2_999_999_999,
        3_600_000_000,
        5_000_000_000,
    ];

    #[test]
    fn neither_days_nor_years_wrap_or_turn_back() {
        for hertz in RATES {
            // A machine that has run for a while, or whose counter firmware has set.
            for origin in [0, 1 << 32, u64::MAX / 3] {
                let clock = Clock::from(origin, hertz);
                let after = |seconds: u64, cycles: u64| {
                    clock.at(clock.cycles_at(origin + seconds * hertz + cycles))
                };
                for days in DAYS {
                    let seconds = days * 86_400;
                    let exact = seconds * 1_000_000_000;
                    let off = after(seconds, 0).nanos().abs_diff(exact);
                    // 5 ns a second, which is what a fraction of 32 places can be off.
                    assert!(
                        off <= seconds * 5,
                        "{hertz} Hz: off by {off} ns after {days} days"
                    );
                    let times: Vec<_> = (0..1000).map(|cycles| after(seconds, cycles)).collect();
                    assert!(times.is_sorted());
                    let second = after(seconds + 1, 0).since(after(seconds, 0));
                    assert!(second.as_nanos().abs_diff(1_000_000_000) <= 6, "{second:?}");
                }
                let ends: Vec<_> = DAYS.map(|days| after(days * 86_400, 0)).into();
                assert!(ends.is_sorted());
                assert_eq!(
                    clock.at(clock.cycles_at(origin.saturating_sub(9))),
                    Time::default()
                );
            }
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
