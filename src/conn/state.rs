//! The states of a connection: those of the kernel's IPVS, with its transitions (`tcp_states` in
//! `ip_vs_proto_tcp.c`; those of SCTP are in [`sctp`](super::sctp)) and timeouts.

use crate::config;
use crate::wire::tcp::Flags;
use std::time::Duration;

/// The state of a connection entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum State {
    /// The entry is free.
    #[default]
    None,
    Established,
    SynSent,
    SynRecv,
    FinWait,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    SynAck,
    /// The client has sent an ACK, and the real server nothing yet. The kernel's ESTABLISHED, but with the lifetime of a
    /// handshake, as anyone can send a blind ACK.
    Unanswered,
    /// A handshake's packets were seen, and the client's ACK does not prove that it got the real server's answer: weir sees
    /// no replies, or the ACK has another number than the real server sent. In all else the kernel's ESTABLISHED.
    Handshaken,
    Udp,
    /// An ICMP echo and what answers it: of `[[snat]]` only.
    Icmp,
    /// A persistence template: binds a client to a real server.
    Template,
    /// The client has sent an INIT.
    SctpInit1,
    /// The client has sent another one.
    SctpInit,
    /// The real server has answered by INIT ACK.
    SctpCookieSent,
    /// The client has sent the cookie back.
    SctpCookieReplied,
    SctpEstablished,
    SctpShutdownSent,
    SctpShutdownReceived,
    SctpShutdownAckSent,
    /// The real server has refused the INIT by ABORT.
    SctpRejected,
    SctpClosed,
}

impl State {
    pub const ALL: [State; 26] = [
        State::None,
        State::Established,
        State::SynSent,
        State::SynRecv,
        State::FinWait,
        State::TimeWait,
        State::Close,
        State::CloseWait,
        State::LastAck,
        State::Listen,
        State::SynAck,
        State::Unanswered,
        State::Handshaken,
        State::Udp,
        State::Icmp,
        State::Template,
        State::SctpInit1,
        State::SctpInit,
        State::SctpCookieSent,
        State::SctpCookieReplied,
        State::SctpEstablished,
        State::SctpShutdownSent,
        State::SctpShutdownReceived,
        State::SctpShutdownAckSent,
        State::SctpRejected,
        State::SctpClosed,
    ];

    /// IPVS's name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            State::None => "none",
            State::Established | State::Unanswered | State::Handshaken => "established",
            State::SynSent => "syn_sent",
            State::SynRecv => "syn_recv",
            State::FinWait => "fin_wait",
            State::TimeWait => "time_wait",
            State::Close => "close",
            State::CloseWait => "close_wait",
            State::LastAck => "last_ack",
            State::Listen => "listen",
            State::SynAck => "synack",
            State::Udp => "udp",
            State::Icmp => "icmp",
            State::Template => "assured",
            State::SctpInit1 => "init1",
            State::SctpInit => "init",
            State::SctpCookieSent => "cookie_sent",
            State::SctpCookieReplied => "cookie_replied",
            State::SctpEstablished => "established",
            State::SctpShutdownSent => "shutdown_sent",
            State::SctpShutdownReceived => "shutdown_received",
            State::SctpShutdownAckSent => "shutdown_ack_sent",
            State::SctpRejected => "rejected",
            State::SctpClosed => "closed",
        }
    }

    /// Whether the kernel counts it as ActiveConn (`tcp_state_active_table`, and of SCTP ESTABLISHED alone); all others are
    /// InActConn.
    #[inline]
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            State::Established
                | State::Unanswered
                | State::Handshaken
                | State::SynSent
                | State::SynRecv
                | State::SynAck
                | State::SctpEstablished
        )
    }

    /// Whether the handshake is under way, or completed by nothing that proves it: what a SYN flood is made of.
    #[inline]
    pub const fn is_half_open(self) -> bool {
        matches!(
            self,
            State::SynRecv
                | State::SynSent
                | State::SynAck
                | State::Unanswered
                | State::Handshaken
                | State::SctpInit1
                | State::SctpInit
                | State::SctpCookieSent
                | State::SctpCookieReplied
        )
    }

    /// Whether a SYN or an INIT makes a new connection of it (the kernel's `is_new_conn_expected`). In CLOSE_WAIT and LAST_ACK, and
    /// in FIN_WAIT where replies are seen, one side may still send: whether the SYN is a new attempt is for the real
    /// server to say (RFC 9293 section 3.10.7.4, RFC 5961 section 4).
    #[inline]
    pub const fn is_reusable(self, sees_replies: bool) -> bool {
        match self {
            State::TimeWait | State::Close | State::SctpRejected | State::SctpClosed => true,
            State::FinWait => !sees_replies,
            _ => false,
        }
    }

    /// Whether both sides have closed, as far as weir sees them, or one has reset: nothing is lost with the entry but the
    /// answer to a late segment.
    #[inline]
    pub const fn is_over(self, sees_replies: bool) -> bool {
        matches!(self, State::LastAck) || self.is_reusable(sees_replies)
    }

    /// Whether the client has yet to complete the handshake.
    #[inline]
    pub const fn is_handshake(self) -> bool {
        matches!(
            self,
            State::SynRecv
                | State::SynSent
                | State::SynAck
                | State::SctpInit1
                | State::SctpInit
                | State::SctpCookieSent
        )
    }

    /// Whether it is one of an SCTP association.
    #[inline]
    pub const fn is_sctp(self) -> bool {
        self as u8 >= State::SctpInit1 as u8
    }

    /// How long the kernel lets an SCTP association be silent in it (`sctp_timeouts`), but for established ones; none of other
    /// states. Longer than the longest pause between two attempts (RFC 9260 section 16: RTO.Max is 60 s).
    const fn sctp_timeout(self) -> Option<Duration> {
        match self {
            State::SctpInit1 | State::SctpRejected => Some(Duration::from_secs(4)),
            state if state.is_sctp() => Some(Duration::from_secs(61)),
            _ => None,
        }
    }

    /// Whether one side has closed, and the other may still send.
    #[inline]
    pub const fn is_half_closed(self) -> bool {
        matches!(self, State::FinWait | State::CloseWait | State::LastAck)
    }
}

/// Which way a packet goes, and whether weir sees the other way at all (`IP_VS_CONN_F_NOOUTPUT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Request,
    Reply,
    /// A request of a mode whose replies go straight to the client.
    RequestOnly,
}

/// The state after a TCP segment, by the kernel's tables but for [`State::Unanswered`] and [`State::Handshaken`], which
/// share its ESTABLISHED. What the tables cannot tell, the director decides: whether the real server has answered, whether a
/// reset is believed, and that a client's SYN changes no half-closed connection.
#[inline]
pub fn next_tcp(state: State, direction: Direction, flags: Flags) -> State {
    // The kernel's order of preference, `tcp_state_idx`: RST, SYN, FIN, ACK.
    let event = match flags {
        flags if flags.rst() => 3,
        flags if flags.syn() => 0,
        flags if flags.fin() => 1,
        flags if flags.ack() => 2,
        _ => return state,
    };
    match TRANSITIONS[direction as usize][event].get(state as usize) {
        Some(&next) => next,
        None => state,
    }
}

/// Whether a TCP segment changes a connection's state, or is a client's SYN, which may open another connection: then there is
/// more to do than to send it on.
#[inline]
pub fn changes_tcp(state: State, direction: Direction, flags: Flags) -> bool {
    let event = match flags {
        flags if flags.rst() => 3,
        flags if flags.syn() => 0,
        flags if flags.fin() => 1,
        flags if flags.ack() => 2,
        _ => return false,
    };
    let next = UNUSUAL[direction as usize][event].get(state as usize);
    next.is_some_and(|next| *next != state)
}

/// As [`TRANSITIONS`], but that a client's SYN leads away from every state.
const UNUSUAL: [[Row; 4]; 3] = {
    let mut unusual = TRANSITIONS;
    unusual[Direction::Request as usize][0] = [State::None; 13];
    unusual[Direction::RequestOnly as usize][0] = [State::None; 13];
    unusual
};

type Row = [State; 13];

const TRANSITIONS: [[Row; 4]; 3] = {
    const ES: State = State::Established;
    const SS: State = State::SynSent;
    const SR: State = State::SynRecv;
    const FW: State = State::FinWait;
    const TW: State = State::TimeWait;
    const CL: State = State::Close;
    const CW: State = State::CloseWait;
    const LA: State = State::LastAck;
    const LI: State = State::Listen;
    const UN: State = State::Unanswered;
    const HS: State = State::Handshaken;
    [
        // Request (the kernel's INPUT).
        //   NO, ES, SS, SR, FW, TW, CL, CW, LA, LI, SA, UN, HS
        [
            [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR, UN, HS], // SYN
            [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW, CW, CW], // FIN
            [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES, UN, HS], // ACK
            [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR, CL, CL], // RST
        ],
        // Reply (OUTPUT).
        [
            [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR, HS, HS],
            [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW, FW, FW],
            [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES, ES, ES],
            [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL, CL, CL],
        ],
        // Request, with no replies to be seen (INPUT ONLY).
        [
            [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR, HS, HS],
            [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW, FW, FW],
            [HS, ES, SS, HS, FW, TW, CL, CW, CL, LI, HS, ES, ES],
            [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL, CL, CL],
        ],
    ]
};

/// How long a connection may be silent in each state, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts([u32; State::ALL.len()]);

impl Timeouts {
    /// In milliseconds, by state.
    pub fn by_state(timeout: impl Fn(State) -> u32) -> Self {
        Timeouts(State::ALL.map(timeout))
    }

    #[inline]
    pub fn of(&self, state: State) -> u32 {
        self.0[state as usize]
    }
}

impl From<&config::TimeoutsConfig> for Timeouts {
    fn from(from: &config::TimeoutsConfig) -> Self {
        Timeouts(State::ALL.map(|state| {
            let timeout = match state {
                State::None => Duration::ZERO,
                State::Established | State::Handshaken => from.tcp_established,
                State::Unanswered => from.tcp_established.min(from.tcp_syn_recv),
                State::SynSent => from.tcp_syn_sent,
                State::SynRecv => from.tcp_syn_recv,
                State::FinWait => from.tcp_half_closed.unwrap_or(from.tcp_fin_wait),
                State::TimeWait => from.tcp_time_wait,
                State::Close => from.tcp_close,
                State::CloseWait => from.tcp_half_closed.unwrap_or(from.tcp_close_wait),
                State::LastAck => from.tcp_last_ack,
                State::Listen => from.tcp_listen,
                State::SynAck => from.tcp_synack,
                State::Udp => from.udp,
                State::Icmp => from.icmp,
                // A template's timeout is its service's, kept in the entry.
                State::Template => Duration::ZERO,
                State::SctpEstablished => from.sctp_established,
                state => state.sctp_timeout().unwrap_or_default(),
            };
            timeout.as_millis() as u32
        }))
    }
}

/// What a service, or a rule of `[[snat]]`, says itself of a state, in milliseconds, if it says something.
pub fn own_timeout(own: &config::OwnTimeouts, state: State) -> Option<u32> {
    let half_closed = || own.get("tcp_half_closed");
    let timeout = match state {
        State::None | State::Unanswered | State::Template => None,
        State::Established | State::Handshaken => own.get("tcp_established"),
        State::SynSent => own.get("tcp_syn_sent"),
        State::SynRecv => own.get("tcp_syn_recv"),
        State::FinWait => half_closed().or(own.get("tcp_fin_wait")),
        State::TimeWait => own.get("tcp_time_wait"),
        State::Close => own.get("tcp_close"),
        State::CloseWait => half_closed().or(own.get("tcp_close_wait")),
        State::LastAck => own.get("tcp_last_ack"),
        State::Listen => own.get("tcp_listen"),
        State::SynAck => own.get("tcp_synack"),
        State::Udp => own.get("udp"),
        State::SctpEstablished => own.get("sctp_established"),
        State::Icmp => own.get("icmp"),
        _ => None,
    };
    timeout.map(|timeout| timeout.as_millis() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One step of a walk: c or s (who sends), flags, and the state afterwards.
    fn walk(steps: &[(&str, &str)], dr: bool) {
        let mut state = State::None;
        for (packet, expected) in steps {
            let (who, flags) = packet.split_once(':').unwrap();
            let direction = match (who, dr) {
                ("s", _) => Direction::Reply,
                (_, true) => Direction::RequestOnly,
                (_, false) => Direction::Request,
            };
            let flags = flags.chars().fold(Flags(0), |flags, letter| {
                Flags(
                    flags.0
                        | match letter {
                            'F' => 1,
                            'S' => 2,
                            'R' => 4,
                            'P' => 8,
                            'A' => 16,
                            _ => unreachable!(),
                        },
                )
            });
            state = next_tcp(state, direction, flags);
            assert_eq!(state.name(), *expected, "after {packet} in {steps:?}");
        }
    }

    #[test]
    fn states_follow_the_kernels_walks() {
        let open = [
            ("c:S", "syn_recv"),
            ("s:SA", "syn_recv"),
            ("c:A", "established"),
        ];
        let with = |rest: &[(&'static str, &'static str)]| [&open[..], rest].concat();
        walk(
            &with(&[
                ("c:FA", "close_wait"),
                ("s:A", "close_wait"),
                ("s:FA", "time_wait"),
                ("c:A", "time_wait"),
            ]),
            false,
        );
        walk(
            &with(&[
                ("s:FA", "fin_wait"),
                ("c:A", "fin_wait"),
                ("c:FA", "time_wait"),
                ("s:A", "time_wait"),
            ]),
            false,
        );
        walk(&with(&[("c:R", "close")]), false);
        walk(&with(&[("s:R", "close")]), false);
        walk(&[("c:S", "syn_recv"), ("s:RA", "close")], false);
        walk(&[("c:S", "syn_recv"), ("c:S", "syn_recv")], false);
        walk(
            &[
                ("c:S", "syn_recv"),
                ("c:A", "established"),
                ("c:R", "close"),
            ],
            true,
        );
        walk(
            &[
                ("c:S", "syn_recv"),
                ("c:A", "established"),
                ("c:FA", "fin_wait"),
                ("c:A", "fin_wait"),
            ],
            true,
        );
    }

    /// The kernel's tables (`tcp_states` in `ip_vs_proto_tcp.c`), as they stand there: input, output, input only; rows SYN,
    /// FIN, ACK, RST; columns NO ES SS SR FW TW CL CW LA LI SA.
    const KERNEL: [[&str; 4]; 3] = [
        [
            "SR ES ES SR SR SR SR SR SR SR SR",
            "CL CW SS TW TW TW CL CW LA LI TW",
            "ES ES SS ES FW TW CL CW CL LI ES",
            "CL CL CL SR CL CL CL CL LA LI SR",
        ],
        [
            "SS ES SS SR SS SS SS SS SS LI SR",
            "TW FW SS TW FW TW CL TW LA LI TW",
            "ES ES SS ES FW TW CL CW LA ES ES",
            "CL CL SS CL CL TW CL CL CL CL CL",
        ],
        [
            "SR ES ES SR SR SR SR SR SR SR SR",
            "CL FW SS TW FW TW CL CW LA LI TW",
            "ES ES SS ES FW TW CL CW CL LI ES",
            "CL CL CL SR CL CL CL CL LA LI CL",
        ],
    ];

    #[test]
    fn every_state_flag_and_direction_leads_where_the_kernels_tables_lead() {
        let short = |state: State| match state {
            State::None => "NO",
            State::Established | State::Unanswered | State::Handshaken => "ES",
            State::SynSent => "SS",
            State::SynRecv => "SR",
            State::FinWait => "FW",
            State::TimeWait => "TW",
            State::Close => "CL",
            State::CloseWait => "CW",
            State::LastAck => "LA",
            State::Listen => "LI",
            State::SynAck => "SA",
            _ => unreachable!("no TCP state"),
        };
        let columns: Vec<_> = "NO ES SS SR FW TW CL CW LA LI SA".split(' ').collect();
        let states = || State::ALL.into_iter().take(State::Udp as usize);
        let directions = [Direction::Request, Direction::Reply, Direction::RequestOnly];
        for (table, direction) in KERNEL.iter().zip(directions) {
            for state in states() {
                for bits in 0..=u8::MAX {
                    let flags = Flags(bits);
                    // `tcp_state_idx`: RST, SYN, FIN, ACK; without any of them nothing changes.
                    let row = [flags.rst(), flags.syn(), flags.fin(), flags.ack()]
                        .iter()
                        .position(|set| *set)
                        .map(|first| [3, 0, 1, 2][first]);
                    let column = columns.iter().position(|name| *name == short(state));
                    let expected = row.map_or(short(state), |row| {
                        table[row].split(' ').nth(column.unwrap()).unwrap()
                    });
                    let next = next_tcp(state, direction, flags);
                    assert_eq!(short(next), expected, "{state:?} {direction:?} {bits:#x}");
                    // What has not proved itself does so by no packet of the client's, where replies are seen; else by one
                    // that comes after the handshake.
                    let proved = next == State::Established && state != State::Established;
                    let by_client = match direction {
                        Direction::Request => {
                            matches!(state, State::Unanswered | State::Handshaken)
                        }
                        Direction::Reply => false,
                        Direction::RequestOnly => {
                            matches!(state, State::None | State::SynRecv | State::SynAck)
                        }
                    };
                    assert!(!(proved && by_client), "{state:?} {direction:?} {bits:#x}");
                }
            }
        }
    }

    #[test]
    fn active_are_the_states_that_the_kernel_calls_active() {
        let active: Vec<_> = State::ALL
            .iter()
            .filter(|state| state.is_active())
            .map(|state| state.name())
            .collect();
        assert_eq!(
            active,
            [
                "established",
                "syn_sent",
                "syn_recv",
                "synack",
                "established",
                "established",
                "established"
            ]
        );
    }

    /// Which states are what, where replies are seen and where not.
    #[test]
    fn a_connection_is_reused_or_given_up_only_when_nothing_can_be_lost() {
        let names = |is: &dyn Fn(State) -> bool| {
            let all = State::ALL.into_iter().filter(|state| is(*state));
            all.map(|state| format!("{state:?}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let cases = [
            // The kernel's `is_new_conn_expected`; FIN_WAIT is NOOUTPUT's only.
            (
                names(&|state| state.is_reusable(true)),
                "TimeWait Close SctpRejected SctpClosed",
            ),
            (
                names(&|state| state.is_reusable(false)),
                "FinWait TimeWait Close SctpRejected SctpClosed",
            ),
            (
                names(&|state| state.is_over(true)),
                "TimeWait Close LastAck SctpRejected SctpClosed",
            ),
            (
                names(&|state| state.is_over(false)),
                "FinWait TimeWait Close LastAck SctpRejected SctpClosed",
            ),
            (
                names(&|state| state.is_half_closed()),
                "FinWait CloseWait LastAck",
            ),
        ];
        for (states, expected) in cases {
            assert_eq!(states, expected);
        }
    }
}
