//! The schedulers by name, and what a configuration may say of each.

use std::time::Duration;

/// One list for the enum, its values and their names.
macro_rules! schedulers {
    ($($scheduler:ident $name:literal,)*) => {
        /// Which real server a new connection goes to. What each does is in [`sched`](crate::sched).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum SchedulerConfig {
            $($scheduler,)*
        }

        impl SchedulerConfig {
            pub const ALL: &'static [SchedulerConfig] = &[$(SchedulerConfig::$scheduler,)*];

            /// As `scheduler` has it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(SchedulerConfig::$scheduler => $name,)*
                }
            }
        }
    };
}

schedulers! {
    Rr "rr",
    Wrr "wrr",
    Lc "lc",
    Wlc "wlc",
    Sed "sed",
    Nq "nq",
    P2c "p2c",
    Twos "twos",
    Sh "sh",
    Mh "mh",
    Rendezvous "rendezvous",
    Conhash "conhash",
    Dh "dh",
    Fo "fo",
    Ovf "ovf",
    Lblc "lblc",
    Lblcr "lblcr",
}

/// Why a share of a weight says nothing to a scheduler, and what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoShares {
    pub why: &'static str,
    pub instead: &'static str,
}

impl SchedulerConfig {
    /// None where a real server with half the weight gets half as much, without any change among the others: then it may start slowly.
    pub const fn no_shares(self) -> Option<NoShares> {
        use SchedulerConfig::*;
        let (why, instead) = match self {
            Wrr | Lc | Wlc | Sed | Nq | P2c | Twos | Mh | Rendezvous => return None,
            Rr => ("which heeds no weights", "wrr"),
            Dh => ("which heeds no weights", "mh"),
            Sh | Conhash => ("with which most clients would move at each step", "mh"),
            Fo => ("whose weights say which real server is the first", "wlc"),
            Ovf | Lblc | Lblcr => ("whose weights are numbers of connections", "wlc"),
        };
        Some(NoShares { why, instead })
    }

    /// Over which time a real server that comes (back) gets its weight where the service does not say: with those that send whatever comes to
    /// the real server with the fewest connections, one that has none yet would get everything.
    pub const fn slow_start(self) -> Option<Duration> {
        use SchedulerConfig::*;
        match self {
            Lc | Wlc | Sed | Nq | P2c | Twos => Some(Duration::from_secs(10)),
            Rr | Wrr | Sh | Mh | Rendezvous | Conhash | Dh | Fo | Ovf | Lblc | Lblcr => None,
        }
    }

    /// The words of `flags` for it, for [`SchedulerFlags::port`] and [`SchedulerFlags::fallback`].
    pub const fn flags(self) -> Option<[&'static str; 2]> {
        match self {
            SchedulerConfig::Sh => Some(["sh-port", "sh-fallback"]),
            SchedulerConfig::Mh => Some(["mh-port", "mh-fallback"]),
            _ => None,
        }
    }
}

/// `flags`, of `sh` and `mh` (ipvsadm's `--sched-flags`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedulerFlags {
    /// A client's port counts beside its address.
    pub port: bool,
    /// The clients of a real server that gets nothing go to another one: which weir does with and without.
    pub fallback: bool,
}

impl SchedulerFlags {
    /// As a configuration has them.
    pub fn words(self, scheduler: SchedulerConfig) -> impl Iterator<Item = &'static str> {
        let words = scheduler.flags().into_iter().flatten();
        words
            .zip([self.port, self.fallback])
            .filter_map(|(word, is_set)| is_set.then_some(word))
    }
}
