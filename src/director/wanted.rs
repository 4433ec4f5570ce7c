//! Next hops that the control thread is asked for: once in a while, however many packets want them.

use super::Core;
use super::family::Family;
use crate::packet::Packet;
use crate::units::{PortId, Time};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const PLACES: usize = 64;
/// Shorter than whatever the resolver waits for.
const WANTED_FOR: Duration = Duration::from_millis(100);

/// The next hops that the control thread was asked for of late, each in a place that its address gives.
pub(super) struct Wants([Wanted; PLACES]);

/// A next hop that the control thread was asked for.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    port: PortId,
    address: IpAddr,
    /// It is not asked for again before; none: the place is free.
    until: Option<Time>,
}

impl Wanted {
    const NONE: Wanted = Wanted {
        port: PortId(0),
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        until: None,
    };
}

impl Wants {
    pub(super) fn new() -> Self {
        Wants([Wanted::NONE; PLACES])
    }
}

impl<F: Family, P: Packet> Core<F, P> {
    /// Asks the control thread to find or confirm a neighbour: once in a while, however many packets want it.
    pub(super) fn want(&mut self, port: PortId, address: IpAddr, now: Time) {
        let place = match address {
            IpAddr::V4(address) => address.to_bits() as usize,
            IpAddr::V6(address) => address.to_bits() as usize,
        };
        let last = &mut self.wants.0[place % PLACES];
        let is_told = (last.port, last.address) == (port, address)
            && last.until.is_some_and(|until| now < until);
        if !is_told && self.mailbox.want(port, address) {
            *last = Wanted {
                port,
                address,
                until: Some(now + WANTED_FOR),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::{Director, Room, Shared};
    use crate::exchange::Mailbox;
    use crate::io::memory::Memory;
    use crate::stats::Stats;
    use crate::steering::{DEFAULT_KEY, Steering};
    use crate::units::WorkerId;
    use std::sync::Arc;

    #[test]
    fn a_next_hop_is_wanted_once_in_a_tenth_of_a_second() {
        let steering = Steering::new(DEFAULT_KEY, 1);
        let shared = Shared::new(Arc::new(Stats::new(1).unwrap()), steering, 1);
        let mailbox = Arc::new(Mailbox::default());
        let room = Room {
            v4: 1,
            ..Room::default()
        };
        let director = Director::<Memory>::new(WorkerId(0), room, shared, mailbox.clone());
        let mut core = director.unwrap().v4.core;
        let mut asks = |port: u8, hop: u32, ms: u64| {
            let before = mailbox.events.len();
            let now = Time::from_nanos(ms * 1_000_000);
            let address = Ipv4Addr::from_bits(0x0a00_0000 + hop).into();
            core.want(PortId(port), address, now);
            mailbox.events.len() > before
        };
        let same_place = 1 + PLACES as u32;
        // Port, next hop, milliseconds, whether the control thread is asked.
        let cases = [
            (0, 1, 0, true),
            (0, 1, 0, false),
            (0, 2, 50, true),
            (0, 1, 99, false),
            (0, 1, 100, true),
            (0, 2, 149, false),
            (0, 2, 150, true),
            // What displaces another is asked for, and so is that then.
            (1, 1, 150, true),
            (1, 1, 151, false),
            (0, 1, 151, true),
            (0, same_place, 151, true),
            (0, same_place, 151, false),
            (0, 1, 151, true),
        ];
        for case in cases {
            let (port, hop, ms, expected) = case;
            assert_eq!(asks(port, hop, ms), expected, "{case:?}");
        }
        // A question that had no room is asked as soon as there is some.
        while mailbox.want(PortId(0), Ipv4Addr::LOCALHOST.into()) {}
        assert!(!asks(0, 3, 200));
        while mailbox.events.pop().is_some() {}
        assert!(asks(0, 3, 200));
    }
}
