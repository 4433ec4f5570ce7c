//! The states of an SCTP association, as far as a packet's first chunk tells (RFC 9260 section 4): those of the kernel's
//! `ip_vs_proto_sctp.c` by name, but for the three of an association that the real server begins on its own.
//!
//! Where the kernel's tables and these differ, these ask for more proof, or take less: nothing but the real server's own packets
//! establishes an association whose replies are seen; and where they are not, a client's COOKIE ECHO proves nothing until another
//! packet follows, so that blind packets leave entries that may be given up.

use super::{Direction, State};
use crate::wire::sctp::Event;

/// The state after a packet. Whether the packet is believed, by its verification tag, the director has decided.
pub fn next_sctp(state: State, direction: Direction, event: Event) -> State {
    match direction {
        Direction::Request => of_request(state, event),
        Direction::Reply => of_reply(state, event),
        Direction::RequestOnly => of_request_only(state, event),
    }
}

fn of_request(state: State, event: Event) -> State {
    match (event, state) {
        (Event::Init, _) => begun(state),
        (Event::CookieEcho, State::SctpCookieSent) => State::SctpCookieReplied,
        (Event::Shutdown, State::SctpEstablished) => State::SctpShutdownReceived,
        // The real server answers by SHUTDOWN COMPLETE, and has forgotten it.
        (
            Event::ShutdownAck,
            State::SctpEstablished
            | State::SctpShutdownSent
            | State::SctpShutdownReceived
            | State::SctpShutdownAckSent,
        ) => State::SctpClosed,
        (Event::ShutdownComplete, State::SctpShutdownAckSent) => State::SctpClosed,
        (Event::Abort, _) => State::SctpClosed,
        _ => state,
    }
}

fn of_reply(state: State, event: Event) -> State {
    match (event, state) {
        (Event::InitAck, State::SctpInit1 | State::SctpInit) => State::SctpCookieSent,
        (
            Event::CookieAck,
            State::SctpInit1 | State::SctpInit | State::SctpCookieSent | State::SctpCookieReplied,
        ) => State::SctpEstablished,
        // Its COOKIE ACK was lost before weir.
        (Event::Data, State::SctpCookieReplied) => State::SctpEstablished,
        (Event::Shutdown, State::SctpCookieReplied | State::SctpEstablished) => {
            State::SctpShutdownSent
        }
        (
            Event::ShutdownAck,
            State::SctpEstablished | State::SctpShutdownSent | State::SctpShutdownReceived,
        ) => State::SctpShutdownAckSent,
        (
            Event::ShutdownComplete,
            State::SctpEstablished
            | State::SctpShutdownSent
            | State::SctpShutdownReceived
            | State::SctpShutdownAckSent,
        ) => State::SctpClosed,
        // Refused: the client's next attempt may go to another real server.
        (Event::Abort, State::SctpInit1 | State::SctpInit) => State::SctpRejected,
        (Event::Abort, State::SctpRejected) => State::SctpRejected,
        (Event::Abort, _) => State::SctpClosed,
        _ => state,
    }
}

fn of_request_only(state: State, event: Event) -> State {
    match (event, state) {
        (Event::Init, _) => begun(state),
        (Event::Abort, _) => State::SctpClosed,
        // Scheduled in mid-association, by the client's address alone.
        (_, State::None) => State::SctpCookieReplied,
        (Event::CookieEcho, State::SctpInit1 | State::SctpInit) => State::SctpCookieReplied,
        (Event::Shutdown, State::SctpCookieReplied | State::SctpEstablished) => {
            State::SctpShutdownReceived
        }
        (
            Event::ShutdownAck,
            State::SctpCookieReplied | State::SctpEstablished | State::SctpShutdownReceived,
        ) => State::SctpClosed,
        (Event::ShutdownComplete, State::SctpShutdownReceived) => State::SctpClosed,
        (Event::Data, State::SctpCookieReplied) => State::SctpEstablished,
        _ => state,
    }
}

/// The state after a client's INIT: an association that is there goes on (section 5.2.2).
fn begun(state: State) -> State {
    match state {
        State::None => State::SctpInit1,
        State::SctpInit1 | State::SctpRejected | State::SctpClosed => State::SctpInit,
        state => state,
    }
}

#[cfg(test)]
#[path = "sctp_tests.rs"]
mod tests;
