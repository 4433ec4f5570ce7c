//! Clients as honest hosts have them: a connection asks again and again, repeats what is not answered, and ends in the end.

use super::packet::{ACK, FIN, LENGTH, Packet, RST, SYN, Said};
use super::{Actions, MILLISECOND, SECOND};
use std::net::SocketAddr;

/// The first repetition comes after this, each further one after twice as long, up to the longest.
const FIRST_REPEAT: u64 = 200 * MILLISECOND;
const LONGEST_REPEAT: u64 = 2 * SECOND;
/// The first repetition of a SYN (RFC 6298 section 2.1).
const FIRST_SYN: u64 = SECOND;
/// So long without progress, and a connection counts as broken.
pub(super) const PATIENCE: u64 = 30 * SECOND;

/// Why a connection is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    Closed,
    /// By a reset.
    Reset,
    /// No answer for [`PATIENCE`].
    Silence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SynSent,
    /// Between an answer and the next question.
    Idle,
    Asked,
    Closing,
    Over,
}

/// A connection of TCP, or a flow of UDP.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) is_tcp: bool,
    /// When its last progress was, by the clock of the simulation.
    pub(super) progress: u64,
    /// The longest time without.
    pub(super) stalled: u64,
    pub(super) is_open: bool,
    pub(super) ended: Option<Ended>,
    /// Its number.
    connection: u32,
    every: u64,
    until: u64,
    state: State,
    next: u32,
    expected: u32,
    number: u16,
    repeat: u64,
    /// Of the only timer that counts.
    token: u64,
}

/// What a connection does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Nanoseconds between an answer and the next question.
    pub(super) every: u64,
    /// When it closes.
    pub(super) until: u64,
}

impl Client {
    pub(super) fn new(
        connection: u32,
        (from, to): (SocketAddr, SocketAddr),
        is_tcp: bool,
        plan: Plan,
    ) -> Self {
        Client {
            from,
            to,
            is_tcp,
            progress: 0,
            stalled: 0,
            is_open: false,
            ended: None,
            connection,
            every: plan.every,
            until: plan.until,
            state: State::SynSent,
            // No two connections of one pair of ends begin near each other.
            next: connection.wrapping_mul(0x9e37_79b9),
            expected: 0,
            number: 0,
            repeat: 0,
            token: 0,
        }
    }

    pub(super) fn start(&mut self, now: u64, actions: &mut Actions) {
        self.progress = now;
        match self.is_tcp {
            true => self.begin(State::SynSent, FIRST_SYN, now, actions),
            false => self.ask(now, actions),
        }
    }

    /// Waits for an answer from now on.
    fn begin(&mut self, state: State, repeat: u64, now: u64, actions: &mut Actions) {
        self.state = state;
        self.repeat = repeat;
        self.attempt(now, actions);
    }

    fn attempt(&mut self, now: u64, actions: &mut Actions) {
        match self.state {
            State::SynSent => actions.send(self.segment(SYN, self.next, 0)),
            State::Asked => actions.send(self.question()),
            State::Closing => {
                let fin = self.segment(FIN | ACK, self.next.wrapping_sub(1), self.expected);
                actions.send(fin);
            }
            State::Idle | State::Over => return,
        }
        self.wake(now + self.repeat, actions);
        self.repeat = (2 * self.repeat).min(LONGEST_REPEAT);
    }

    fn wake(&mut self, at: u64, actions: &mut Actions) {
        self.token += 1;
        actions.wake(at, self.token);
    }

    fn said(&self) -> Said {
        Said {
            connection: self.connection,
            number: self.number,
        }
    }

    fn question(&self) -> Packet {
        match self.is_tcp {
            true => {
                let sequence = self.next.wrapping_sub(LENGTH);
                let segment = self.segment(ACK, sequence, self.expected);
                segment.saying(self.said())
            }
            false => Packet::udp(self.from, self.to, self.said()),
        }
    }

    fn segment(&self, flags: u8, sequence: u32, acknowledged: u32) -> Packet {
        Packet::tcp(self.from, self.to, flags, sequence, acknowledged)
    }

    fn ask(&mut self, now: u64, actions: &mut Actions) {
        self.number = self.number.wrapping_add(1);
        self.next = self.next.wrapping_add(LENGTH);
        self.begin(State::Asked, FIRST_REPEAT, now, actions);
    }

    /// A timer that it has set has run out.
    pub(super) fn woken(&mut self, token: u64, now: u64, actions: &mut Actions) {
        if token != self.token || self.state == State::Over {
            return;
        }
        if self.state == State::Idle {
            return self.go_on(now, actions);
        }
        if now - self.progress >= PATIENCE {
            self.stalled = self.stalled.max(now - self.progress);
            let ended = match self.state {
                // Nothing is lost if only its end is not acknowledged.
                State::Closing => Ended::Closed,
                _ => Ended::Silence,
            };
            return self.end(ended);
        }
        self.attempt(now, actions);
    }

    fn go_on(&mut self, now: u64, actions: &mut Actions) {
        if now < self.until {
            return self.ask(now, actions);
        }
        match self.is_tcp {
            true => {
                self.next = self.next.wrapping_add(1);
                self.progress = now;
                self.begin(State::Closing, FIRST_REPEAT, now, actions);
            }
            false => self.end(Ended::Closed),
        }
    }

    fn end(&mut self, ended: Ended) {
        self.state = State::Over;
        self.ended = Some(ended);
    }

    /// Whether it is neither over nor ending.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.state, State::Over | State::Closing)
    }

    pub(super) fn receive(&mut self, packet: &Packet, now: u64, actions: &mut Actions) {
        match self.state {
            State::Over => {}
            // Of another connection, or badly translated.
            _ if packet.source != self.to => {}
            _ if !self.is_tcp => {
                if self.state == State::Asked && packet.said == Some(self.said()) {
                    self.answered(now, actions);
                }
            }
            State::SynSent => self.handshake(packet, now, actions),
            _ => self.segment_received(packet, now, actions),
        }
    }

    /// In SYN-SENT (RFC 9293 section 3.10.7.3).
    fn handshake(&mut self, packet: &Packet, now: u64, actions: &mut Actions) {
        let is_acceptable = packet.has(ACK) && packet.acknowledged == self.next.wrapping_add(1);
        if packet.has(RST) {
            if is_acceptable {
                self.end(Ended::Reset);
            }
        } else if !is_acceptable {
            actions.send(packet.refusal());
        } else if packet.has(SYN) {
            self.next = self.next.wrapping_add(1);
            self.expected = packet.sequence.wrapping_add(1);
            self.is_open = true;
            self.note_progress(now);
            actions.send(self.segment(ACK, self.next, self.expected));
            self.ask(now, actions);
        }
    }

    fn segment_received(&mut self, packet: &Packet, now: u64, actions: &mut Actions) {
        if packet.has(RST) {
            // RFC 5961 section 3.2.
            if packet.sequence == self.expected {
                let ended = match self.state {
                    State::Closing => Ended::Closed,
                    _ => Ended::Reset,
                };
                self.end(ended);
            }
            return;
        }
        if packet.sequence != self.expected {
            // Repeated, or of another time: acknowledged again.
            if packet.end() != packet.sequence {
                actions.send(self.segment(ACK, self.next, self.expected));
            }
            return;
        }
        self.expected = packet.end();
        if packet.has(FIN) && self.state == State::Closing {
            actions.send(self.segment(ACK, self.next, self.expected));
            return self.end(Ended::Closed);
        }
        if self.state == State::Asked && packet.said == Some(self.said()) {
            actions.send(self.segment(ACK, self.next, self.expected));
            self.answered(now, actions);
        }
    }

    fn answered(&mut self, now: u64, actions: &mut Actions) {
        self.is_open = true;
        self.note_progress(now);
        self.state = State::Idle;
        self.wake(now + self.every, actions);
    }

    fn note_progress(&mut self, now: u64) {
        self.stalled = self.stalled.max(now - self.progress);
        self.progress = now;
    }
}
