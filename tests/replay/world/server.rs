//! Real servers with the TCP states that matter where weir takes a local pair over: a listening socket's half-open
//! connections and SYN cookies, TIME-WAIT, and what each of them answers.

use super::packet::{ACK, Address, DATA, FIN, PSH, Packet, RST, SYN, UDP};
use super::{Actions, SECOND};
use std::collections::HashMap;

/// More half-open connections are answered by SYN cookies.
const BACKLOG: usize = 256;
const TIME_WAIT: u64 = 60 * SECOND;
const REPEATS: [u64; 4] = [SECOND, 3 * SECOND, 7 * SECOND, 15 * SECOND];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    LastAck,
    TimeWait { until: u64 },
}

#[derive(Clone, Copy, Debug)]
struct Socket {
    state: State,
    /// The next sequence number to send …
    next: u32,
    /// … and the next one to come.
    expected: u32,
    /// The client that has asked here.
    id: Option<u64>,
    attempts: usize,
    since: u64,
    token: u64,
}

/// What the sockets of a connection are told apart by: the peer and the own address.
type Key = (Address, Address);

#[derive(Debug, Default)]
pub struct Real {
    number: u16,
    sockets: HashMap<Key, Socket>,
    half_open: usize,
    tokens: u64,
    timers: HashMap<u64, Key>,
    pub behaviour: Behaviour,
    pub seen: Seen,
}

#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// It closes its side with the answer, and so keeps TIME-WAIT.
    pub closes_first: bool,
    /// It answers UDP.
    pub answers: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour {
            closes_first: false,
            answers: true,
        }
    }
}

/// What happened at a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Data of one client came in the connection of another.
    pub confused: u64,
    /// A SYN came to a connection that was established.
    pub syn_in_established: u64,
    /// A SYN came to TIME-WAIT, and was taken for a new connection since its number is higher (RFC 9293 section 3.10.7.4).
    pub time_wait_reused: u64,
    /// The same, refused: its number is lower.
    pub time_wait_refused: u64,
    /// A reset ended TIME-WAIT.
    pub time_wait_reset: u64,
    pub accepted: u64,
}

impl Real {
    pub fn new(number: usize, behaviour: Behaviour) -> Self {
        Real {
            number: number as u16,
            behaviour,
            ..Real::default()
        }
    }

    pub fn receive(&mut self, packet: &Packet, now: u64, actions: &mut Actions) {
        if packet.protocol == UDP {
            if let (true, Some(data)) = (self.behaviour.answers, packet.data) {
                let answer = self.signed(data);
                actions.send(Packet::udp(packet.destination, packet.source, answer));
            }
            return;
        }
        let key = (packet.source, packet.destination);
        let over =
            |socket: &Socket| matches!(socket.state, State::TimeWait { until } if until <= now);
        if self.sockets.get(&key).is_some_and(over) {
            self.sockets.remove(&key);
        }
        match self.sockets.get(&key).copied() {
            None => self.listening(key, packet, now, actions),
            Some(socket) => self.connected(key, socket, packet, now, actions),
        }
    }

    fn signed(&self, data: u64) -> u64 {
        u64::from(self.number) << 48 | data & 0xffff_ffff_ffff
    }

    /// Where its sequence numbers begin for a client's: a SYN cookie, which it need not keep.
    fn cookie(&self, key: &Key, client: u32) -> u32 {
        let ((address, port), (_, local)) = key;
        let mut hash =
            u64::from(address.to_bits()) << 32 | u64::from(*port) << 16 | u64::from(*local);
        for word in [u64::from(client), 0x5eed] {
            hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^= hash >> 31;
        }
        hash as u32
    }

    fn listening(&mut self, key: Key, packet: &Packet, now: u64, actions: &mut Actions) {
        if packet.has(RST) {
            return;
        }
        if packet.flags & (SYN | ACK) == SYN {
            self.open(key, packet, now, actions);
        } else if packet.has(ACK)
            && packet.acknowledged.wrapping_sub(1)
                == self.cookie(&key, packet.sequence.wrapping_sub(1))
        {
            let socket = Socket {
                state: State::Established,
                next: packet.acknowledged,
                expected: packet.sequence,
                id: None,
                attempts: 0,
                since: now,
                token: 0,
            };
            self.seen.accepted += 1;
            self.connected(key, socket, packet, now, actions);
        } else {
            actions.send(packet.refusal());
        }
    }

    /// A SYN: the connection begins.
    fn open(&mut self, key: Key, packet: &Packet, now: u64, actions: &mut Actions) {
        let start = self.cookie(&key, packet.sequence);
        let mut socket = Socket {
            state: State::SynReceived,
            next: start.wrapping_add(1),
            expected: packet.sequence.wrapping_add(1),
            id: None,
            attempts: 0,
            since: now,
            token: 0,
        };
        actions.send(answer(&key, SYN | ACK, start, socket.expected));
        if self.half_open < BACKLOG {
            self.half_open += 1;
            self.set_timer(&key, &mut socket, actions);
            self.sockets.insert(key, socket);
        }
    }

    fn set_timer(&mut self, key: &Key, socket: &mut Socket, actions: &mut Actions) {
        self.timers.remove(&socket.token);
        self.tokens += 1;
        socket.token = self.tokens;
        self.timers.insert(socket.token, *key);
        actions.wake(socket.since + REPEATS[socket.attempts], socket.token);
    }

    pub fn wake(&mut self, token: u64, actions: &mut Actions) {
        let Some(key) = self.timers.remove(&token) else {
            return;
        };
        let Some(mut socket) = self.sockets.get(&key).copied() else {
            return;
        };
        let repeated = match socket.state {
            State::SynReceived => SYN | ACK,
            State::FinWait1 | State::LastAck => FIN | ACK,
            _ => return,
        };
        if socket.token != token {
            return;
        }
        socket.attempts += 1;
        if socket.attempts == REPEATS.len() {
            self.remove(&key);
            return;
        }
        let sequence = socket.next.wrapping_sub(1);
        actions.send(answer(&key, repeated, sequence, socket.expected));
        self.set_timer(&key, &mut socket, actions);
        self.sockets.insert(key, socket);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(socket) = self.sockets.remove(key) {
            self.half_open -= usize::from(socket.state == State::SynReceived);
            self.timers.remove(&socket.token);
        }
    }

    /// A segment to a socket that is no listening one.
    fn connected(
        &mut self,
        key: Key,
        mut socket: Socket,
        packet: &Packet,
        now: u64,
        actions: &mut Actions,
    ) {
        let challenge = |socket: &Socket| answer(&key, ACK, socket.next, socket.expected);
        if packet.has(RST) {
            match packet.sequence == socket.expected {
                true => {
                    let was_waiting = matches!(socket.state, State::TimeWait { .. });
                    self.seen.time_wait_reset += u64::from(was_waiting);
                    self.remove(&key);
                }
                // RFC 5961 section 3.2.
                false => actions.send(challenge(&socket)),
            }
            return;
        }
        if packet.has(SYN) {
            let is_higher = packet.sequence.wrapping_sub(socket.expected) as i32 > 0;
            match socket.state {
                State::SynReceived if packet.end() == socket.expected => {
                    let start = socket.next.wrapping_sub(1);
                    actions.send(answer(&key, SYN | ACK, start, socket.expected));
                }
                State::TimeWait { .. } if is_higher => {
                    self.seen.time_wait_reused += 1;
                    self.sockets.remove(&key);
                    self.open(key, packet, now, actions);
                }
                state => {
                    match state {
                        State::TimeWait { .. } => self.seen.time_wait_refused += 1,
                        State::Established => self.seen.syn_in_established += 1,
                        _ => {}
                    }
                    actions.send(challenge(&socket));
                }
            }
            return;
        }
        if socket.state == State::SynReceived {
            if packet.acknowledged != socket.next {
                actions.send(packet.refusal());
                return;
            }
            self.half_open -= 1;
            self.timers.remove(&socket.token);
            self.seen.accepted += 1;
            socket.state = State::Established;
        }
        if packet.end() != packet.sequence && packet.sequence != socket.expected {
            // Repeated, and answered already: the answer once more.
            actions.send(challenge(&socket));
            if let (Some(data), State::Established) = (packet.data, socket.state) {
                let sequence = socket.next.wrapping_sub(DATA);
                let again = answer(&key, PSH | ACK, sequence, socket.expected);
                actions.send(again.with(self.signed(data)));
            }
            self.sockets.insert(key, socket);
            return;
        }
        // The number of a segment with neither data nor FIN counts for nothing: it may be forged.
        if packet.end() != packet.sequence {
            socket.expected = packet.end();
        }
        let mut replies = 0;
        if let (Some(data), State::Established) = (packet.data, socket.state) {
            self.seen.confused += u64::from(socket.id.is_some_and(|id| id != data));
            socket.id = Some(data);
            let closes = self.behaviour.closes_first;
            let flags = PSH | ACK | if closes { FIN } else { 0 };
            let reply = answer(&key, flags, socket.next, socket.expected).with(self.signed(data));
            socket.next = reply.end();
            actions.send(reply);
            replies += 1;
            if closes {
                socket.state = State::FinWait1;
                (socket.since, socket.attempts) = (now, 0);
                self.set_timer(&key, &mut socket, actions);
            }
        }
        let acknowledges_all = packet.has(ACK) && packet.acknowledged == socket.next;
        match socket.state {
            State::FinWait1 if acknowledges_all => socket.state = State::FinWait2,
            State::LastAck if acknowledges_all => {
                self.sockets.insert(key, socket);
                self.remove(&key);
                return;
            }
            _ => {}
        }
        if packet.has(FIN) {
            match socket.state {
                State::FinWait1 | State::FinWait2 => {
                    socket.state = State::TimeWait {
                        until: now + TIME_WAIT,
                    };
                }
                State::Established => {
                    socket.state = State::LastAck;
                    (socket.since, socket.attempts) = (now, 0);
                    let fin = answer(&key, FIN | ACK, socket.next, socket.expected);
                    socket.next = fin.end();
                    actions.send(fin);
                    replies += 1;
                    self.set_timer(&key, &mut socket, actions);
                }
                _ => {}
            }
            if replies == 0 {
                actions.send(answer(&key, ACK, socket.next, socket.expected));
            }
        }
        self.sockets.insert(key, socket);
    }
}

fn answer(key: &Key, flags: u8, sequence: u32, acknowledged: u32) -> Packet {
    let (client, own) = *key;
    Packet::tcp(own, client, flags, sequence, acknowledged)
}
