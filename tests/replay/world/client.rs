//! Clients as honest hosts have them: they repeat what is not answered, and end what was refused.

use super::packet::{ACK, ARP, Address, DATA, FIN, ICMP, PSH, Packet, RST, SYN, TCP, UDP};
use super::{Actions, SECOND};

/// When an attempt is repeated, counted from the first (RFC 6298: the timeout doubles); at the last one it is given up.
const REPEATS: [u64; 4] = [SECOND, 3 * SECOND, 7 * SECOND, 15 * SECOND];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// One answer, and then the connection is closed.
    One,
    /// A connection that is kept, with a question again and again; nanoseconds between them.
    Kept { every: u64 },
    /// A connection that is kept, and silent after one answer.
    Idle,
    /// To hear at once that there is no service.
    Refusal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Pending,
    /// It has what it wants: an answer to its first question, or the refusal.
    Served,
    /// By a reset.
    Refused,
    GaveUp,
    /// After it was served: a reset, or silence.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SynSent,
    Asked,
    Idle,
    Closing,
    Over,
}

#[derive(Debug)]
pub struct Client {
    pub address: Address,
    pub to: Address,
    pub protocol: u8,
    pub wants: Wants,
    pub round_trip: u64,
    pub started: u64,
    /// Until the first answer, in nanoseconds.
    pub latency: Option<u64>,
    pub outcome: Outcome,
    /// How often the first attempt was repeated.
    pub repeats: usize,
    /// The real server that answered first.
    pub real: Option<u16>,
    /// Another one answered later.
    pub moved: bool,
    pub asked: u64,
    pub answered: u64,
    id: u64,
    state: State,
    start: u32,
    next: u32,
    expected: u32,
    attempts: usize,
    since: u64,
    /// Of the only timer that counts.
    token: u64,
}

impl Client {
    pub fn new(id: usize, address: Address, to: Address, protocol: u8, round_trip: u64) -> Self {
        // Any number will do: no two connections of one address and port begin with the same.
        let start = (id as u32).wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995;
        Client {
            address,
            to,
            protocol,
            wants: Wants::One,
            round_trip,
            started: 0,
            latency: None,
            outcome: Outcome::Pending,
            repeats: 0,
            real: None,
            moved: false,
            asked: 0,
            answered: 0,
            id: id as u64,
            state: State::SynSent,
            start,
            next: start,
            expected: 0,
            attempts: 0,
            since: 0,
            token: 0,
        }
    }

    pub fn start(&mut self, now: u64, actions: &mut Actions) {
        self.started = now;
        match self.protocol {
            TCP => {
                self.begin(State::SynSent, now);
                self.attempt(actions);
            }
            _ => self.ask(now, actions),
        }
    }

    fn begin(&mut self, state: State, now: u64) {
        self.state = state;
        self.attempts = 0;
        self.since = now;
    }

    /// Sends what this state wants an answer to, and sets the timer.
    fn attempt(&mut self, actions: &mut Actions) {
        let packet = match (self.state, self.protocol) {
            (State::SynSent, _) => self.segment(SYN, self.start, 0),
            (State::Asked, TCP) => {
                let sequence = self.next.wrapping_sub(DATA);
                self.segment(PSH | ACK, sequence, self.expected)
                    .with(self.id)
            }
            (State::Asked, UDP) => Packet::udp(self.address, self.to, self.id),
            (State::Asked, ARP) => Packet::arp_request(self.address.0, self.to.0),
            (State::Asked, _) => Packet::echo(self.address, self.to.0),
            (State::Closing, _) => {
                self.segment(FIN | ACK, self.next.wrapping_sub(1), self.expected)
            }
            (State::Idle | State::Over, _) => return,
        };
        actions.send(packet);
        self.token += 1;
        actions.wake(self.since + REPEATS[self.attempts], self.token);
    }

    fn segment(&self, flags: u8, sequence: u32, acknowledged: u32) -> Packet {
        Packet::tcp(self.address, self.to, flags, sequence, acknowledged)
    }

    fn ask(&mut self, now: u64, actions: &mut Actions) {
        self.begin(State::Asked, now);
        self.next = self.next.wrapping_add(DATA);
        self.asked += 1;
        self.attempt(actions);
    }

    pub fn wake(&mut self, token: u64, now: u64, actions: &mut Actions) {
        if token != self.token {
            return;
        }
        if self.state == State::Idle {
            return self.ask(now, actions);
        }
        self.attempts += 1;
        if self.attempts < REPEATS.len() {
            self.repeats += usize::from(self.latency.is_none());
            return self.attempt(actions);
        }
        // Nothing is lost if only the end of a connection is not answered.
        match (self.latency, self.state) {
            (_, State::Closing) => {}
            (None, _) => self.outcome = Outcome::GaveUp,
            (Some(_), _) => self.outcome = Outcome::Lost,
        }
        self.state = State::Over;
    }

    pub fn receive(&mut self, packet: &Packet, now: u64, actions: &mut Actions) {
        match (self.protocol, self.state) {
            (_, State::Over) => {}
            (UDP, State::Asked) if packet.data.is_some_and(|data| self.is_mine(data)) => {
                self.answered(packet.data, now, actions);
            }
            (ICMP | ARP, State::Asked) => self.answered(None, now, actions),
            (TCP, State::SynSent) => self.handshake(packet, now, actions),
            (TCP, _) => self.segment_received(packet, now, actions),
            _ => {}
        }
    }

    /// In SYN-SENT (RFC 9293 section 3.10.7.3).
    fn handshake(&mut self, packet: &Packet, now: u64, actions: &mut Actions) {
        let is_acceptable = packet.has(ACK) && packet.acknowledged == self.start.wrapping_add(1);
        if packet.has(RST) {
            if is_acceptable {
                self.outcome = Outcome::Refused;
                if self.wants == Wants::Refusal {
                    self.outcome = Outcome::Served;
                    self.latency = Some(now - self.started);
                }
                self.state = State::Over;
            }
        } else if !is_acceptable {
            actions.send(packet.refusal());
        } else if packet.has(SYN) {
            self.expected = packet.sequence.wrapping_add(1);
            self.next = self.start.wrapping_add(1);
            actions.send(self.segment(ACK, self.next, self.expected));
            self.ask(now, actions);
        }
    }

    fn segment_received(&mut self, packet: &Packet, now: u64, actions: &mut Actions) {
        if packet.has(RST) {
            // RFC 5961 section 3.2.
            if packet.sequence == self.expected {
                // An end that is not in order any more costs nothing.
                if self.state != State::Closing {
                    self.outcome = Outcome::Lost;
                }
                self.state = State::Over;
            }
            return;
        }
        if packet.has(SYN) || packet.data.is_some() && packet.sequence != self.expected {
            // Repeated: acknowledged again.
            actions.send(self.segment(ACK, self.next, self.expected));
            return;
        }
        if packet.sequence == self.expected && packet.end() != packet.sequence {
            self.expected = packet.end();
            actions.send(self.segment(ACK, self.next, self.expected));
            if self.state == State::Asked && packet.data.is_some_and(|data| self.is_mine(data)) {
                self.answered(packet.data, now, actions);
            }
            if packet.has(FIN) && self.state != State::Closing {
                self.close(now, actions);
            }
        }
        if self.state == State::Closing && packet.acknowledged == self.next {
            self.state = State::Over;
        }
    }

    fn close(&mut self, now: u64, actions: &mut Actions) {
        self.begin(State::Closing, now);
        self.next = self.next.wrapping_add(1);
        self.attempt(actions);
    }

    /// Whether it has asked since then, and is waiting for the answer.
    pub fn is_waiting_since(&self, at: u64) -> bool {
        matches!(self.state, State::SynSent | State::Asked) && self.since >= at
    }

    /// Real servers put their number in front of the client's.
    fn is_mine(&self, data: u64) -> bool {
        data & 0xffff_ffff_ffff == self.id
    }

    fn answered(&mut self, data: Option<u64>, now: u64, actions: &mut Actions) {
        self.answered += 1;
        if self.latency.is_none() {
            self.latency = Some(now - self.started);
            self.outcome = Outcome::Served;
        }
        let real = data.map(|data| (data >> 48) as u16);
        self.moved |= self.real.is_some() && self.real != real;
        self.real = self.real.or(real);
        self.begin(State::Idle, now);
        self.token += 1;
        match self.wants {
            Wants::One if self.protocol == TCP => self.close(now, actions),
            Wants::One => self.state = State::Over,
            Wants::Kept { every } => actions.wake(now + every, self.token),
            Wants::Idle | Wants::Refusal => {}
        }
    }
}
