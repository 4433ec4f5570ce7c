//! An entry as the bytes of its memory, which outlive a process: read back, checked, and made one of this process again.
//!
//! The layout is that of [`Connection`], a `repr(C)` structure without pointers. `record` has its version, and a test with bytes
//! that were written once.

use super::{Connection, Key, NO_HOP, NO_TEMPLATE, TRANSLATES, TWO_WAY, Translation, WRAPPED};
use super::{STRAY, State};
use crate::units::{Millis, RealId, ServiceId};
use crate::wire::checksum::Delta;
use std::mem::offset_of;

/// Bytes that no worker has left behind but in the middle of writing them: what they say does not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn;

/// The bytes of a field at its place.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    field(bytes, at).map(u32::from_ne_bytes)
}

impl<K: Key> Connection<K> {
    /// The connection whose entry had these bytes; none: the entry was free.
    ///
    /// # Errors
    /// Where they are not as many as an entry has, or no whole one's.
    pub fn from_memory(bytes: &[u8]) -> Result<Option<Self>, Torn> {
        if bytes.len() != size_of::<Self>() {
            return Err(Torn);
        }
        let state = bytes[offset_of!(Self, state)];
        if state == State::None as u8 {
            return Ok(None);
        }
        let state = State::ALL.into_iter().find(|known| *known as u8 == state);
        let state = state.ok_or(Torn)?;
        let read = Self::read(bytes, state).ok_or(Torn)?;
        read.is_whole().then_some(Some(read)).ok_or(Torn)
    }

    fn read(bytes: &[u8], state: State) -> Option<Self> {
        let key = |at: usize| K::from_memory(bytes.get(at..at + size_of::<K>())?);
        let marks = offset_of!(Self, marks);
        let delta = |at| field(bytes, at).map(Delta::from_memory);
        Some(Connection {
            request: key(offset_of!(Self, request))?,
            reply: key(offset_of!(Self, reply))?,
            last_seen: Millis(number(bytes, offset_of!(Self, last_seen))?),
            real: RealId(number(bytes, offset_of!(Self, real))?),
            marks: [number(bytes, marks)?, number(bytes, marks + 4)?],
            template: number(bytes, offset_of!(Self, template))?,
            hops: [NO_HOP; 2],
            route_generation: 0,
            state,
            flags: bytes[offset_of!(Self, flags)],
            ip_delta: delta(offset_of!(Self, ip_delta))?,
            l4_delta: delta(offset_of!(Self, l4_delta))?,
        })
    }

    /// Whether its parts fit together: its checksums' changes are those of its addresses, which were written with it.
    fn is_whole(&self) -> bool {
        if self.is_template() {
            return self.request == self.reply;
        }
        let (request, reply) = (&self.request, &self.reply);
        let translation = Translation {
            source: reply.destination(),
            source_port: reply.destination_port(),
            destination: reply.source(),
            destination_port: reply.source_port(),
            is_applied: self.flags & TRANSLATES != 0,
            sees_replies: self.flags & TWO_WAY != 0,
            is_wrapped: self.flags & WRAPPED != 0,
        };
        let made = Connection::new(*request, translation, self.real);
        made.reply == *reply
            && (made.ip_delta, made.l4_delta) == (self.ip_delta, self.l4_delta)
            // Only with replies are there other addresses for the client.
            && (translation.sees_replies
                || (request.source(), request.source_port())
                    == (reply.destination(), reply.destination_port()))
    }

    /// The same connection in another process: of these ids, without next hops, template and what a template counts. `later`:
    /// what is added to its times. `now`: none is later than that.
    #[must_use]
    pub fn renewed(&self, real: RealId, service: ServiceId, later: u32, now: Millis) -> Self {
        let renewed = |then: u32| match now.0.wrapping_sub(then.wrapping_add(later)) {
            // It would be taken for one of long ago.
            age if age > i32::MAX as u32 => now.0,
            age => now.0.wrapping_sub(age),
        };
        let marks = match self.state {
            State::Template => [0, service.0],
            State::Udp | State::Icmp => [renewed(self.marks[0]), self.marks[1]],
            _ => self.marks,
        };
        Connection {
            real,
            marks,
            last_seen: Millis(renewed(self.last_seen.0)),
            template: match self.state {
                State::Template => self.template,
                _ => NO_TEMPLATE,
            },
            hops: [NO_HOP; 2],
            flags: self.flags & !STRAY,
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::{AnyAddress, FlowKey, FlowKey6, FlowKeyAny};
    use crate::forward::MODES;
    use crate::units::HopId;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    /// The bytes of an entry in a table, as `record` finds them.
    fn bytes_of<K: Key>(connection: Connection<K>) -> Vec<u8> {
        let file = tempfile::tempfile().unwrap();
        let slice = crate::arch::HugeSlice::in_file(connection, 1, &file, 0).unwrap();
        let mut bytes = vec![0; size_of::<Connection<K>>()];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
        drop(slice);
        bytes
    }

    fn connection<K: Key>(
        ends: [(K::Address, u16); 4],
        protocol: u8,
        mode: usize,
        state: State,
        marks: [u32; 3],
    ) -> Connection<K> {
        let [client, vip, real, local] = ends;
        let request = K::new(client.0, client.1, vip.0, vip.1, protocol);
        let mode = &MODES[mode % MODES.len()];
        let local = mode.uses_pool.then_some(local);
        let translation = mode.translation(&request, real, local);
        let mut connection = match state {
            State::Template => {
                Connection::template(request, marks[2], ServiceId(marks[1]), RealId(7))
            }
            _ => Connection::new(request, translation, RealId(7)),
        };
        connection.state = state;
        connection.last_seen = Millis(marks[2]);
        connection.marks = [marks[0], marks[1]];
        connection.set_hop(false, Some(HopId(3)));
        connection
    }

    fn round<K: Key>(connection: Connection<K>, cut: usize, bit: u8) {
        let bytes = bytes_of(connection);
        let read = Connection::<K>::from_memory(&bytes).unwrap().unwrap();
        let mut expected = connection;
        expected.hops = [NO_HOP; 2];
        assert_eq!(format!("{read:?}"), format!("{expected:?}"));
        // Only a part of it was written, in the place of a free one; or the other way round.
        let free = bytes_of(Connection::<K>::FREE);
        let cut = cut % bytes.len();
        for (head, tail) in [(&bytes, &free), (&free, &bytes)] {
            let torn = [&head[..cut], &tail[cut..]].concat();
            if let Ok(Some(read)) = Connection::<K>::from_memory(&torn) {
                let keys = (read.request, read.reply);
                assert!(
                    keys == (connection.request, connection.reply) || read.is_template(),
                    "{read:?} of {connection:?}"
                );
            }
        }
        let mut spoilt = bytes;
        spoilt[cut] ^= 1 << (bit % 8);
        let _ = Connection::<K>::from_memory(&spoilt);
        assert!(Connection::<K>::from_memory(&spoilt[1..]).is_err());
    }

    proptest! {
        #[test]
        fn an_entry_is_read_as_it_was_and_a_torn_one_leads_nowhere(
            bits: [u128; 4],
            ports: [u16; 4],
            protocol: u8,
            mode in 0..MODES.len(),
            state in 1..State::ALL.len(),
            marks: [u32; 3],
            cut: usize,
            bit: u8,
        ) {
            let state = State::ALL[state];
            let four = |n: usize| (Ipv4Addr::from_bits(bits[n] as u32), ports[n]);
            let six = |n: usize| (Ipv6Addr::from_bits(bits[n] | 1), ports[n]);
            let any = [six(0), six(1)].map(|(it, port)| (AnyAddress::from(IpAddr::from(it)), port));
            let inner = [four(2), four(3)].map(|(it, port)| (AnyAddress::from(IpAddr::from(it)), port));
            let any = [any[0], any[1], inner[0], inner[1]];
            let numbers = [0, 1, 2, 3];
            round(connection::<FlowKey>(numbers.map(four), protocol, mode, state, marks), cut, bit);
            round(connection::<FlowKey6>(numbers.map(six), protocol, mode, state, marks), cut, bit);
            round(connection::<FlowKeyAny>(any, protocol, mode, state, marks), cut, bit);
        }
    }

    #[test]
    fn times_go_on_where_they_were_and_none_is_in_the_future() {
        let of = |last_seen| {
            let ends = [(Ipv4Addr::LOCALHOST, 1); 4];
            let mut it = connection::<FlowKey>(ends, 17, 1, State::Udp, [last_seen, 1, last_seen]);
            it.set_stray();
            it
        };
        for (then, later, now, age) in [
            (1_000, 0, 5_000, 4_000),
            // The clock of this process began 3 s later.
            (4_000, 0u32.wrapping_sub(3_000), 1_500, 500),
            (1_000, 0u32.wrapping_sub(3_000), 10, 2_010),
            (u32::MAX - 5, 0, 10, 16),
            // As far as rounding goes.
            (1_001, 0, 1_000, 0),
        ] {
            let renewed = of(then).renewed(RealId(9), ServiceId(4), later, Millis(now));
            assert_eq!(
                Millis(now).since(renewed.last_seen),
                age,
                "{then} {later} {now}"
            );
            assert_eq!(renewed.marks, [renewed.last_seen.0, 1]);
            assert!(!renewed.is_stray() && renewed.real == RealId(9));
        }
    }
}
