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
    /// A worker: 0 for the first of `dpdk.workers`.
    WorkerId(u8)
);
id!(
    /// A virtual service. Reused only after its last connection is gone.
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

/// The low 32 bits of a time in milliseconds: wraps after 49 days, so only differences have a meaning,
/// and only below [`Millis::MAX_SPAN`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Millis(pub u32);

impl Millis {
    /// The longest timeout that can be told from its wrap.
    pub const MAX_SPAN: Duration = Duration::from_secs(20 * 86_400);

    /// Milliseconds from `earlier` to here; 0 for an `earlier` that is later.
    #[inline]
    pub fn since(self, earlier: Millis) -> u32 {
        let span = self.0.wrapping_sub(earlier.0);
        if span > u32::MAX / 2 { 0 } else { span }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_survive_their_wrap() {
        assert_eq!(Millis(5).since(Millis(u32::MAX - 4)), 10);
        assert_eq!(Millis(5).since(Millis(6)), 0);
    }
}
