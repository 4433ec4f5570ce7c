//! The states of a connection: those of the kernel's IPVS, with its transitions (`tcp_states` in
//! `ip_vs_proto_tcp.c`) and timeouts.

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
    Udp,
    /// A persistence template: binds a client to a real server.
    Template,
}

impl State {
    pub const ALL: [State; 13] = [
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
        State::Udp,
        State::Template,
    ];

    /// IPVS's name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            State::None => "none",
            State::Established => "established",
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
            State::Template => "assured",
        }
    }

    /// Whether the kernel counts it as ActiveConn (`tcp_state_active_table`); all others are InActConn.
    #[inline]
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            State::Established | State::SynSent | State::SynRecv | State::SynAck
        )
    }

    /// Whether the handshake is under way, as far as weir sees it: what a SYN flood is made of.
    #[inline]
    pub const fn is_half_open(self) -> bool {
        matches!(self, State::SynRecv | State::SynSent | State::SynAck)
    }

    /// Whether a SYN makes a new connection of it, with a real server chosen anew (the kernel's `conn_reuse_mode` 1).
    /// The kernel names TIME_WAIT, and FIN_WAIT where nothing comes back; a client that uses a port again has given
    /// the other closing states up too.
    #[inline]
    pub const fn is_reusable(self) -> bool {
        matches!(
            self,
            State::FinWait | State::TimeWait | State::Close | State::CloseWait | State::LastAck
        )
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

/// The state after a TCP segment, by the kernel's tables.
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

type Row = [State; 11];

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
    [
        // Request (the kernel's INPUT).
        //   NO, ES, SS, SR, FW, TW, CL, CW, LA, LI, SA
        [
            [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR], // SYN
            [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW], // FIN
            [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES], // ACK
            [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR], // RST
        ],
        // Reply (OUTPUT).
        [
            [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
            [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
            [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
            [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
        ],
        // Request, with no replies to be seen (INPUT ONLY).
        [
            [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
            [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
            [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
            [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
        ],
    ]
};

/// How long a connection may be silent in each state, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts([u32; State::ALL.len()]);

impl Timeouts {
    #[inline]
    pub fn of(&self, state: State) -> u32 {
        self.0[state as usize]
    }
}

impl From<&config::Timeouts> for Timeouts {
    fn from(from: &config::Timeouts) -> Self {
        Timeouts(State::ALL.map(|state| {
            let timeout = match state {
                State::None => Duration::ZERO,
                State::Established => from.tcp_established,
                State::SynSent => from.tcp_syn_sent,
                State::SynRecv => from.tcp_syn_recv,
                State::FinWait => from.tcp_fin_wait,
                State::TimeWait => from.tcp_time_wait,
                State::Close => from.tcp_close,
                State::CloseWait => from.tcp_close_wait,
                State::LastAck => from.tcp_last_ack,
                State::Listen => from.tcp_listen,
                State::SynAck => from.tcp_synack,
                State::Udp => from.udp,
                // A template's timeout is its service's, kept in the entry.
                State::Template => Duration::ZERO,
            };
            timeout.as_millis() as u32
        }))
    }
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

    #[test]
    fn active_are_the_states_that_the_kernel_calls_active() {
        let active: Vec<_> = State::ALL
            .iter()
            .filter(|state| state.is_active())
            .map(|state| state.name())
            .collect();
        assert_eq!(active, ["established", "syn_sent", "syn_recv", "synack"]);
    }
}
