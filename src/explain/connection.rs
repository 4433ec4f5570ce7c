//! The connection that a packet belongs to, as it is before the packet.

use crate::conn::{Connection, Key};
use crate::replay::Replay;
use crate::tables::Timing;
use crate::units::{Millis, RealId, Time};
use std::net::SocketAddr;

/// A live connection of either family, or across both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub client: SocketAddr,
    pub vip: SocketAddr,
    /// Where the real server answers from, and to.
    pub real: SocketAddr,
    pub local: SocketAddr,
    pub id: RealId,
    pub state: &'static str,
    /// Seconds until it ends if it stays silent.
    pub left_s: u64,
    /// The packet is the real server's.
    pub is_reply: bool,
    pub is_template: bool,
}

fn ends<K: Key>(key: &K) -> (SocketAddr, SocketAddr) {
    (
        SocketAddr::new(key.source().into(), key.source_port()),
        SocketAddr::new(key.destination().into(), key.destination_port()),
    )
}

fn held<K: Key>(connection: &Connection<K>, timing: &Timing, now: Millis) -> Held {
    let (client, vip) = ends(&connection.request);
    let (real, local) = ends(&connection.reply);
    Held {
        client,
        vip,
        real,
        local,
        id: connection.real,
        state: connection.state.name(),
        left_s: timing
            .timeout(connection)
            .saturating_sub(now.since(connection.last_seen))
            .div_ceil(1000)
            .into(),
        is_reply: false,
        is_template: connection.is_template(),
    }
}

/// Every live connection with its protocol's number.
fn all(engine: &Replay, now: Time) -> impl Iterator<Item = (u8, Held)> {
    let (timing, now) = (&engine.model().tables().timing, now.millis());
    let v4 = engine
        .connections()
        .map(move |(_, it)| (it.request.protocol(), held(it, timing, now)));
    let v6 = engine
        .connections6()
        .map(move |(_, it)| (it.request.protocol(), held(it, timing, now)));
    let across = engine
        .connections_across()
        .map(move |(_, it)| (it.request.protocol(), held(it, timing, now)));
    v4.chain(v6).chain(across)
}

impl Held {
    /// The connection of a packet.
    pub(super) fn find(
        engine: &Replay,
        protocol: u8,
        (source, destination): (SocketAddr, SocketAddr),
        now: Time,
    ) -> Option<Held> {
        all(engine, now).find_map(|(number, held)| {
            if number != protocol || held.is_template {
                return None;
            }
            let is_request = (held.client, held.vip) == (source, destination);
            // Of a mode that sees no replies both keys are the request's.
            let is_reply = (held.real, held.local) == (source, destination);
            (is_request || is_reply).then_some(Held {
                is_reply: !is_request,
                ..held
            })
        })
    }

    /// The template that binds a client to a real server of a service, by its masked address.
    pub(super) fn bond(
        engine: &Replay,
        client: std::net::IpAddr,
        vip: SocketAddr,
        now: Time,
    ) -> Option<Held> {
        let bonds = all(engine, now)
            .map(|(_, held)| held)
            .filter(|held| held.is_template);
        bonds
            .into_iter()
            .find(|held| held.client.ip() == client && held.vip == vip)
    }
}
