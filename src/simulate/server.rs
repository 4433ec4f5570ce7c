//! Real servers: they answer what they are asked, with the TCP states that matter for that.

use super::packet::{ACK, FIN, Packet, RST, SYN};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// A real server's side of a connection.
#[derive(Debug)]
struct Connection {
    /// The number that the client's side began with.
    began: u32,
    /// Its own that comes next, and the client's.
    next: u32,
    expected: u32,
    /// The answer to what the client asked last, and what that was.
    answer: Option<(u32, Packet)>,
    /// Whose it is, once it was asked something.
    asked_by: Option<u32>,
}

/// The real server of a connection, and both ends as it sees them, its own first: of dr, that is the VIP.
type Ends = (IpAddr, SocketAddr, SocketAddr);

/// What a real server noticed about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noticed {
    Nothing,
    /// It was asked something by the connection of that number.
    Asked(u32),
    /// Somebody opens a connection between the ends of that one's, which is not over.
    OpensAnew(u32),
    /// The second one asks in the middle of the first one's connection.
    Mixed(u32, u32),
}

/// All real servers, by the ends of their connections.
#[derive(Debug, Default)]
pub(super) struct Servers {
    connections: HashMap<Ends, Connection>,
    begun: u32,
}

impl Servers {
    /// What a real server answers to a packet, if anything. `local`: where it came to, which is not the packet's destination
    /// where a DSCP stands for that.
    pub(super) fn receive(
        &mut self,
        real: IpAddr,
        packet: &Packet,
        local: SocketAddr,
    ) -> (Option<Packet>, Noticed) {
        let packet = Packet {
            destination: local,
            ..*packet
        };
        if !packet.is_tcp {
            let Some(said) = packet.said else {
                return (None, Noticed::Nothing);
            };
            let answer = Packet::udp(local, packet.source, said);
            return (Some(answer), Noticed::Asked(said.connection));
        }
        let ends = (real, local, packet.source);
        if packet.has(SYN) && !packet.has(ACK) && !packet.has(RST) {
            return self.open(ends, &packet);
        }
        let Some(connection) = self.connections.get_mut(&ends) else {
            let refusal = (!packet.has(RST)).then(|| packet.refusal());
            return (refusal, Noticed::Nothing);
        };
        if packet.has(RST) {
            if packet.sequence == connection.expected {
                self.connections.remove(&ends);
            }
            return (None, Noticed::Nothing);
        }
        let reply = |connection: &Connection, flags, sequence| {
            Packet::tcp(ends.1, ends.2, flags, sequence, connection.expected)
        };
        if packet.sequence != connection.expected {
            // The question that was answered last, or something of another time.
            let again = connection.answer.filter(|(of, _)| *of == packet.sequence);
            let again = again.map(|(_, answer)| answer);
            let needs_ack = packet.end() != packet.sequence;
            let ack = needs_ack.then(|| reply(connection, ACK, connection.next));
            return (again.or(ack), Noticed::Nothing);
        }
        connection.expected = packet.end();
        if packet.has(FIN) {
            let last = reply(connection, FIN | ACK, connection.next);
            self.connections.remove(&ends);
            return (Some(last), Noticed::Nothing);
        }
        let Some(said) = packet.said else {
            return (None, Noticed::Nothing);
        };
        let noticed = match connection.asked_by.replace(said.connection) {
            Some(other) if other != said.connection => Noticed::Mixed(other, said.connection),
            _ => Noticed::Asked(said.connection),
        };
        let answer = reply(connection, ACK, connection.next).saying(said);
        connection.next = answer.end();
        connection.answer = Some((packet.sequence, answer));
        (Some(answer), noticed)
    }

    fn open(&mut self, ends: Ends, syn: &Packet) -> (Option<Packet>, Noticed) {
        let former = self.connections.get(&ends);
        let noticed = match former.and_then(|former| former.asked_by) {
            Some(asker) if former.is_some_and(|former| former.began != syn.sequence) => {
                Noticed::OpensAnew(asker)
            }
            _ => Noticed::Nothing,
        };
        let began = match former {
            // Once more: answered as before.
            Some(former) if former.began == syn.sequence && former.asked_by.is_none() => {
                former.next.wrapping_sub(1)
            }
            Some(former) if former.began == syn.sequence => {
                let ack = Packet::tcp(ends.1, ends.2, ACK, former.next, former.expected);
                return (Some(ack), Noticed::Nothing);
            }
            // A new connection in the place of one that is over at its other end (RFC 9293 section 3.10.7.4 would ask first).
            _ => {
                self.begun += 1;
                self.begun.wrapping_mul(0x85eb_ca6b)
            }
        };
        let connection = Connection {
            began: syn.sequence,
            next: began.wrapping_add(1),
            expected: syn.sequence.wrapping_add(1),
            answer: None,
            asked_by: None,
        };
        let answer = Packet::tcp(ends.1, ends.2, SYN | ACK, began, connection.expected);
        self.connections.insert(ends, connection);
        (Some(answer), noticed)
    }
}
