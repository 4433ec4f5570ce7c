//! One end of a TCP connection, as RFC 9293 has it where it matters here: it sends again what is not acknowledged, puts together
//! what comes in any order, and judges every number that it is told.

use super::frame::Segment;
use super::{MILLISECOND, Random};
use std::fmt;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
const URG: u8 = 32;

/// The shortest and the longest time after which something is sent again.
const RTO: (u64, u64) = (100 * MILLISECOND, 500 * MILLISECOND);
const KEEPALIVE: u64 = 1000 * MILLISECOND;
/// Segments under way.
const FLIGHT: u64 = 10;

pub type Out = Vec<Segment>;

/// How an end behaves.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Its initial sequence number.
    pub first: u32,
    pub seed: u64,
    pub mss: u16,
    /// Bytes that it takes, in units of 2^shift.
    pub window: u16,
    pub shift: u8,
    /// Words of no operation in every header.
    pub padding: usize,
    /// Segments are as long as they may be; else of any length, and of another when they are sent again.
    pub sends_whole: bool,
    /// Some segments are urgent.
    pub urges: bool,
    pub keeps_alive: bool,
    pub data_in_syn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    SynSent,
    SynReceived,
    Established,
    /// It has given up.
    Aborted,
    /// The other end has.
    Reset,
}

pub struct End {
    is_client: bool,
    habits: Habits,
    random: Random,
    state: State,
    /// What it sends, and behind it a FIN.
    stream: Vec<u8>,
    /// How much of it is acknowledged, was sent, and was sent for the last time; the FIN counts as one more.
    acknowledged: u64,
    sent: u64,
    next: u64,
    /// How far the other end lets it send.
    allowed: u64,
    /// What the other end has of what it does not acknowledge.
    held: Vec<(u64, u64)>,
    repeats: u32,
    most: u64,
    shift: u8,
    /// The other end's first number of data.
    begins: u32,
    taken: Vec<u8>,
    /// Of its stream, in any order.
    early: Vec<(u64, Vec<u8>)>,
    /// Where its FIN is.
    ends: Option<u64>,
    has_ended: bool,
    /// How far it was allowed to send.
    promised: u64,
    deadline: Option<u64>,
    backoff: u32,
    forged: Vec<u8>,
    aborts: Option<u64>,
    asks: bool,
    /// When it has last answered what brought nothing.
    answered: u64,
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.is_client {
            "client"
        } else {
            "real server"
        };
        write!(
            f,
            "{name} {:?}: {} of {} acknowledged, {} sent, {} allowed, {:?} held; {} taken of {:?}, {} early; {:?}",
            self.state,
            self.acknowledged,
            self.stream.len(),
            self.sent,
            self.allowed,
            self.held,
            self.taken.len(),
            self.ends,
            self.early.len(),
            self.habits
        )
    }
}

impl End {
    pub fn new(is_client: bool, habits: Habits, stream: Vec<u8>) -> End {
        End {
            is_client,
            habits,
            random: Random(habits.seed | 1),
            state: State::Closed,
            stream,
            acknowledged: 0,
            sent: 0,
            next: 0,
            allowed: 0,
            held: vec![],
            repeats: 0,
            most: 536,
            shift: 0,
            begins: 0,
            taken: vec![],
            early: vec![],
            ends: None,
            has_ended: false,
            promised: 0,
            deadline: None,
            backoff: 0,
            forged: vec![],
            aborts: None,
            asks: false,
            answered: 0,
        }
    }

    /// Puts this option into every header.
    pub fn forge(&mut self, option: &[u8]) {
        self.forged = option.to_vec();
    }

    /// Gives up by a reset once so many bytes were sent.
    pub fn abort_after(&mut self, bytes: usize) {
        self.aborts = Some(bytes as u64);
    }

    /// Asks a silent other end whether it is still there.
    pub fn keep_asking(&mut self) {
        self.asks = true;
    }

    pub fn taken(&self) -> &[u8] {
        &self.taken
    }

    /// Everything was sent and acknowledged, and everything has come.
    pub fn is_done(&self) -> bool {
        self.acknowledged == self.end() && self.has_ended
    }

    pub fn is_reset(&self) -> bool {
        self.state == State::Reset
    }

    pub fn timer(&self) -> Option<u64> {
        self.deadline
    }

    /// The end of what it sends, the FIN counted.
    fn end(&self) -> u64 {
        self.stream.len() as u64 + 1
    }

    fn number(&self, at: u64) -> u32 {
        self.habits.first.wrapping_add(1).wrapping_add(at as u32)
    }

    /// The place in its own stream of a number that the other end tells.
    fn place(&self, number: u32) -> i64 {
        let from = self.number(self.acknowledged);
        self.acknowledged as i64 + i64::from(number.wrapping_sub(from) as i32)
    }

    /// The place in the other end's stream.
    fn other_place(&self, number: u32) -> i64 {
        let from = self.begins.wrapping_add(self.received() as u32);
        self.received() as i64 + i64::from(number.wrapping_sub(from) as i32)
    }

    /// What it takes next of the other end's stream.
    fn received(&self) -> u64 {
        self.taken.len() as u64 + u64::from(self.has_ended)
    }

    fn window(&self) -> u64 {
        u64::from(self.habits.window) << self.habits.shift
    }

    /// The options of every header, which leave room for others.
    fn options(&self) -> Vec<u8> {
        let mut options = self.forged.clone();
        options.extend(vec![1; self.habits.padding * 4]);
        options.truncate(40);
        options
    }

    fn segment(&mut self, at: i64, flags: u8, data: Vec<u8>) -> Segment {
        let mut options = self.options();
        let mut blocks: Vec<(u64, u64)> = (self.early.iter())
            .map(|(at, data)| (*at, at + data.len() as u64))
            .collect();
        blocks.sort_unstable();
        let room = (40 - options.len()).saturating_sub(4) / 8;
        // The newest first does not matter here.
        blocks.truncate(room.min(3));
        if !blocks.is_empty() && flags & SYN == 0 {
            options.extend([1, 1, 5, 2 + 8 * blocks.len() as u8]);
            for (from, to) in blocks {
                for edge in [from, to] {
                    let number = self.begins.wrapping_add(edge as u32);
                    options.extend(number.to_be_bytes());
                }
            }
        }
        self.promised = self.promised.max(self.received() + self.window());
        let is_urgent = self.habits.urges && !data.is_empty() && self.random.happens(300);
        Segment {
            sequence: self.number(0).wrapping_add(at as u32),
            acknowledged: match flags & ACK {
                0 => 0,
                _ => self.begins.wrapping_add(self.received() as u32),
            },
            flags: flags | if is_urgent { URG } else { 0 },
            window: self.habits.window,
            urgent: if is_urgent { data.len() as u16 } else { 0 },
            options,
            data,
        }
    }

    fn syn(&mut self) -> Segment {
        let flags = if self.is_client { SYN } else { SYN | ACK };
        let mut data = vec![];
        if self.is_client && self.habits.data_in_syn {
            data = self.stream[..self.stream.len().min(50)].to_vec();
        }
        let mut segment = self.segment(-1, flags, data);
        let [high, low] = self.habits.mss.to_be_bytes();
        let mut options = vec![2, 4, high, low, 1, 3, 3, self.habits.shift, 1, 1, 4, 2];
        if self.is_client && self.habits.data_in_syn {
            // Fast Open, with a cookie.
            options.extend([34, 8, 1, 2, 3, 4, 5, 6]);
        }
        options.extend(self.options());
        options.truncate(40);
        segment.options = options;
        // The window of a SYN is not shifted.
        self.promised = self.promised.max(u64::from(self.habits.window));
        segment
    }

    fn ack(&mut self) -> Segment {
        let at = self.next as i64;
        self.segment(at, ACK, vec![])
    }

    pub fn open(&mut self, now: u64) -> Out {
        self.state = State::SynSent;
        self.rearm(now);
        vec![self.syn()]
    }

    fn rearm(&mut self, now: u64) {
        let rto = (RTO.0 << self.backoff.min(8)).min(RTO.1);
        self.deadline = match self.state {
            State::SynSent | State::SynReceived => Some(now + rto),
            // Under way, or not allowed to go.
            State::Established if self.acknowledged < self.end() => Some(now + rto),
            State::Established if self.asks || self.habits.keeps_alive && !self.is_done() => {
                Some(now + KEEPALIVE)
            }
            _ => None,
        };
    }

    /// The timer has run out.
    pub fn expire(&mut self, now: u64) -> Out {
        self.backoff += 1;
        let out = match self.state {
            State::SynSent | State::SynReceived => vec![self.syn()],
            State::Established if self.acknowledged == self.end() => vec![self.keepalive()],
            State::Established if self.acknowledged < self.next => {
                // What the other end has said to hold it may have thrown away (RFC 2018 section 8).
                if self.backoff > 3 {
                    self.held.clear();
                }
                self.again()
            }
            State::Established if self.allowed <= self.next => {
                // A window of nothing is asked again by a byte.
                let at = self.next;
                let data: Vec<u8> = self.stream.get(at as usize).copied().into_iter().collect();
                match data.is_empty() {
                    true => vec![self.keepalive()],
                    false => {
                        self.sent = self.sent.max(at + 1);
                        vec![self.segment(at as i64, ACK, data)]
                    }
                }
            }
            State::Established => self.pump(now),
            _ => vec![],
        };
        self.rearm(now);
        out
    }

    /// Of a byte before the next, with or without one of no meaning (RFC 9293 section 3.8.4).
    fn keepalive(&mut self) -> Segment {
        let data = if self.random.happens(500) {
            vec![0xee]
        } else {
            vec![]
        };
        let at = self.next as i64 - 1;
        let mut segment = self.segment(at, ACK, data);
        segment.flags &= !URG;
        segment.urgent = 0;
        segment
    }

    /// Sends again what the other end lacks first.
    fn again(&mut self) -> Out {
        let mut at = self.acknowledged;
        let mut held = self.held.clone();
        held.sort_unstable();
        for (from, to) in held {
            if from <= at {
                at = at.max(to);
            }
        }
        match at < self.sent {
            true => vec![self.data(at, self.sent)],
            false => vec![],
        }
    }

    /// A segment of its stream from there on, at most up to there.
    fn data(&mut self, at: u64, until: u64) -> Segment {
        let room = self.most.min(u64::from(self.habits.mss)).min(1400);
        let room = room.saturating_sub(self.options().len() as u64 + 28).max(1);
        let length = match self.habits.sends_whole {
            true => room,
            false => 1 + u64::from(self.random.word()) % room,
        };
        let bytes = self.stream.len() as u64;
        let to = (at + length).min(until).min(bytes);
        let data = self.stream[(at as usize).min(bytes as usize)..to as usize].to_vec();
        let mut flags = ACK | if data.is_empty() { 0 } else { PSH };
        let mut end = to.max(at);
        if end == bytes && until > bytes {
            flags |= FIN;
            end += 1;
        }
        self.sent = self.sent.max(end);
        self.next = self.next.max(end);
        self.segment(at as i64, flags, data)
    }

    /// Sends what may be sent.
    fn pump(&mut self, now: u64) -> Out {
        let mut out = vec![];
        if self.state != State::Established {
            return out;
        }
        let flight = FLIGHT * self.most;
        while self.next < self.end() && self.next - self.acknowledged < flight {
            // The FIN needs no window.
            let bytes = self.stream.len() as u64;
            let until = match self.allowed >= bytes {
                true => self.end(),
                false => self.allowed,
            };
            if self.next >= until {
                break;
            }
            if self.aborts.is_some_and(|after| self.next >= after) {
                break;
            }
            let at = self.next;
            out.push(self.data(at, until));
        }
        if self.aborts.is_some_and(|after| self.next >= after) {
            let at = self.next as i64;
            out.push(self.segment(at, RST, vec![]));
            self.state = State::Aborted;
        }
        self.rearm(now);
        out
    }

    pub fn receive(&mut self, segment: &Segment, now: u64) -> Out {
        let (flags, is_syn) = (segment.flags, segment.flags & SYN != 0);
        match self.state {
            State::Reset => return vec![],
            State::Aborted | State::Closed if self.is_client => {
                return match flags & (RST | ACK) {
                    ACK => vec![Segment {
                        sequence: segment.acknowledged,
                        flags: RST,
                        ..Segment::default()
                    }],
                    _ => vec![],
                };
            }
            _ => {}
        }
        if flags & RST != 0 {
            return self.hear_reset(segment);
        }
        match self.state {
            State::Closed if is_syn && flags & ACK == 0 => {
                self.begins = segment.sequence.wrapping_add(1);
                self.hear_syn(segment);
                self.state = State::SynReceived;
                self.rearm(now);
                return vec![self.syn()];
            }
            State::Closed => return vec![],
            State::SynReceived if is_syn => return vec![self.syn()],
            State::SynSent => {
                let is_answer = is_syn && segment.acknowledged == self.number(0);
                if !is_answer {
                    return vec![];
                }
                self.begins = segment.sequence.wrapping_add(1);
                self.hear_syn(segment);
                self.allowed = segment.window.into();
                self.state = State::Established;
                self.backoff = 0;
                let mut out = vec![self.ack()];
                out.extend(self.pump(now));
                return out;
            }
            // One that is late, of this connection.
            _ if is_syn => return self.answer(now),
            _ => {}
        }
        if self.state == State::SynReceived {
            if flags & ACK == 0 || self.place(segment.acknowledged) < 0 {
                return vec![];
            }
            self.state = State::Established;
            self.backoff = 0;
        }
        let mut out = self.hear_acknowledged(segment);
        out.extend(self.hear_data(segment, now));
        out.extend(self.pump(now));
        out
    }

    fn hear_reset(&mut self, segment: &Segment) -> Out {
        let place = self.other_place(segment.sequence);
        let is_next = self.state != State::Closed && place == self.received() as i64;
        // RFC 5961 section 3.2.
        let is_in_window = place > 0 && (place as u64) < self.promised;
        match (is_next, self.asks) {
            (true, true) => {
                self.state = State::Reset;
                self.deadline = None;
                vec![]
            }
            (true, false) => panic!("a reset that was not to come: {segment:?}\n{self:?}"),
            (false, _) if is_in_window && self.state == State::Established => vec![self.ack()],
            _ => vec![],
        }
    }

    fn hear_syn(&mut self, segment: &Segment) {
        if let Some(&[_, _, high, low]) = segment.option(2) {
            self.most = u16::from_be_bytes([high, low]).into();
        }
        if let Some(&[_, _, shift]) = segment.option(3) {
            self.shift = shift;
        }
    }

    fn hear_acknowledged(&mut self, segment: &Segment) -> Out {
        if segment.flags & ACK == 0 {
            return vec![];
        }
        let place = self.place(segment.acknowledged);
        assert!(
            place <= self.sent as i64,
            "{place} is acknowledged, which was never sent\n{self:?}"
        );
        for edges in segment
            .option(5)
            .unwrap_or_default()
            .get(2..)
            .unwrap_or_default()
            .chunks(8)
        {
            let edge =
                |at: usize| self.place(u32::from_be_bytes(edges[at..at + 4].try_into().unwrap()));
            let (from, to) = (edge(0), edge(4));
            assert!(
                from < to && to <= self.sent as i64,
                "{from}..{to} is held, which was never sent\n{self:?}"
            );
            assert!(
                from > place || from < self.acknowledged as i64,
                "what is held from {from} on is acknowledged, or was, up to {place}\n{self:?}"
            );
            if from > self.acknowledged as i64 {
                self.held.push((from as u64, to as u64));
            }
        }
        if place < self.acknowledged as i64 {
            return vec![];
        }
        let place = place as u64;
        self.allowed = (self.allowed).max(place + (u64::from(segment.window) << self.shift));
        if place > self.acknowledged {
            self.acknowledged = place;
            self.next = self.next.max(place);
            self.held.retain(|(_, to)| *to > place);
            (self.backoff, self.repeats) = (0, 0);
            return vec![];
        }
        if segment.data.is_empty() && segment.flags & FIN == 0 && place < self.next {
            self.repeats += 1;
            if self.repeats == 3 {
                return self.again();
            }
        }
        vec![]
    }

    /// Answers what brings nothing, not so often that two ends answer each other for ever (RFC 5961 section 7).
    fn answer(&mut self, now: u64) -> Out {
        if now < self.answered + RTO.0 {
            return vec![];
        }
        self.answered = now;
        vec![self.ack()]
    }

    fn hear_data(&mut self, segment: &Segment, now: u64) -> Out {
        let (flags, mut data) = (segment.flags, segment.data.clone());
        if flags & URG != 0 && !data.is_empty() {
            assert_eq!(usize::from(segment.urgent), data.len(), "the urgent byte");
        }
        let at = self.other_place(segment.sequence);
        // Behind the end there is nothing but a byte that asks whether this end is there.
        if let Some(ends) = self
            .ends
            .filter(|ends| at + data.len() as i64 > *ends as i64)
        {
            data.truncate((ends as i64 - at).max(0) as usize);
            if data.is_empty() && flags & FIN == 0 {
                return self.answer(now);
            }
        }
        let end = at + data.len() as i64;
        if data.is_empty() && flags & FIN == 0 {
            // It asks whether this end is there.
            return match at < self.received() as i64 && !self.has_ended {
                true => self.answer(now),
                false => vec![],
            };
        }
        // A byte asks after a window of nothing.
        assert!(
            end <= self.promised as i64 + i64::from(data.len() == 1),
            "{at}..{end}, beyond the window\n{self:?}"
        );
        if flags & FIN != 0 {
            assert!(self.ends.is_none_or(|ends| ends == end as u64));
            self.ends = Some(end as u64);
        }
        let known = self.taken.len() as i64;
        if at > known {
            if !self.early.contains(&(at as u64, data.clone())) && !data.is_empty() {
                self.early.push((at as u64, data));
            }
        } else if end > known {
            self.taken.extend(&data[(known - at) as usize..]);
        }
        self.early.sort();
        for (at, data) in std::mem::take(&mut self.early) {
            let (known, end) = (self.taken.len() as u64, at + data.len() as u64);
            if at > known {
                self.early.push((at, data));
            } else if end > known {
                self.taken.extend(&data[(known - at) as usize..]);
            }
        }
        self.has_ended |= self.ends == Some(self.taken.len() as u64);
        vec![self.ack()]
    }
}
