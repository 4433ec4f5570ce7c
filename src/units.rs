//! Numbers that must not be mixed up: each carries its unit, or what it counts, in its type.

use std::fmt;
use std::time::Duration;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        impl $name {
            /// As a position in an array.
            #[inline]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A `[[port]]`, by its place in the configuration file.
    PortId(u8)
);
id!(
    /// A device (a NIC or a virtual one), by its place among those that the ports name. Several ports may be on one.
    DeviceId(u8)
);
id!(
    /// A worker: 0 for the first of `dpdk.workers`.
    WorkerId(u8)
);
id!(
    /// A virtual service. Given to another only when no connection has it, and no worker reads tables that name it.
    ServiceId(u32)
);
id!(
    /// A real server of one virtual service; connections are bound to this, never to a place in a list.
    /// Reused only after its last connection is gone.
    RealId(u32)
);
id!(
    /// A neighbour (next hop): a slot of the neighbour table.
    HopId(u16)
);
id!(
    /// Counts what the control thread has published; 1 is the configuration of the start.
    Generation(u64)
);

/// A point on the dataplane's clock: nanoseconds since an origin that the clock's owner chose
/// (the start of the daemon, or 1970 for the clock of a replay). Never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    pub const fn from_nanos(nanos: u64) -> Self {
        Time(nanos)
    }

    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The coarse time that connections keep.
    #[inline]
    pub fn millis(self) -> Millis {
        Millis((self.0 / 1_000_000) as u32)
    }

    /// How long after `earlier` this is; zero if it is not.
    #[inline]
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    fn add(self, by: Duration) -> Time {
        Time(
            self.0
                .saturating_add(by.as_nanos().min(u128::from(u64::MAX)) as u64),
        )
    }
}

/// The low 32 bits of a time in milliseconds, which wrap after 49.7 days: only an age has a meaning, and only while it is
/// below [`Millis::RANGE`]. Entries that keep one are looked at often enough for that: every age is at most a timeout
/// ([`Millis::MAX_SPAN`]), a round of the sweep, and a gap in the clock, which above [`Millis::MAX_SPAN`] empties the
/// connection table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Millis(pub u32);

impl Millis {
    /// The longest timeout.
    pub const MAX_SPAN: Duration = Duration::from_secs(20 * 86_400);
    /// Ages from here on are taken for shorter ones.
    pub const RANGE: Duration = Duration::from_millis(1 << 32);

    /// Milliseconds from `earlier`, which must not be later, to here.
    #[inline]
    pub fn since(self, earlier: Millis) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_survive_their_wrap() {
        assert_eq!(Millis(5).since(Millis(u32::MAX - 4)), 10);
    }

    #[test]
    fn every_age_that_an_entry_can_reach_is_told_from_its_wrap() {
        // A round of the largest table at a million entries a second.
        let round = Duration::from_secs(1 << 10);
        assert!(Millis::MAX_SPAN * 2 + round < Millis::RANGE);
        for start in [0, 1 << 31, u64::from(u32::MAX) - 7] {
            for days in [0, 1, 20, 25, 40, 49] {
                let (then, age) = (start, days * 86_400_000);
                let millis = |ms: u64| Time::from_nanos(ms * 1_000_000).millis();
                assert_eq!(u64::from(millis(then + age).since(millis(then))), age);
            }
        }
    }
}
