use super::*;

const STATES: [State; 11] = [
    State::None,
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

/// Every state after every first chunk, in the order of [`STATES`]; `.` where it stays.
const TABLE: &str = "
request      DATA               .  .  .  .  .  .  .  .  .  .  .
request      INIT               I1 IN .  .  .  .  .  .  .  IN IN
request      INIT_ACK           .  .  .  .  .  .  .  .  .  .  .
request      COOKIE_ECHO        .  .  .  CR .  .  .  .  .  .  .
request      COOKIE_ACK         .  .  .  .  .  .  .  .  .  .  .
request      SHUTDOWN           .  .  .  .  .  SR .  .  .  .  .
request      SHUTDOWN_ACK       .  .  .  .  .  CL CL CL CL .  .
request      SHUTDOWN_COMPLETE  .  .  .  .  .  .  .  .  CL .  .
request      ERROR              .  .  .  .  .  .  .  .  .  .  .
request      ABORT              CL CL CL CL CL CL CL CL CL CL .
reply        DATA               .  .  .  .  ES .  .  .  .  .  .
reply        INIT               .  .  .  .  .  .  .  .  .  .  .
reply        INIT_ACK           .  CS CS .  .  .  .  .  .  .  .
reply        COOKIE_ECHO        .  .  .  .  .  .  .  .  .  .  .
reply        COOKIE_ACK         .  ES ES ES ES .  .  .  .  .  .
reply        SHUTDOWN           .  .  .  .  SS SS .  .  .  .  .
reply        SHUTDOWN_ACK       .  .  .  .  .  SA SA SA .  .  .
reply        SHUTDOWN_COMPLETE  .  .  .  .  .  CL CL CL CL .  .
reply        ERROR              .  .  .  .  .  .  .  .  .  .  .
reply        ABORT              CL RJ RJ CL CL CL CL CL CL .  .
request_only DATA               CR .  .  .  ES .  .  .  .  .  .
request_only INIT               I1 IN .  .  .  .  .  .  .  IN IN
request_only INIT_ACK           CR .  .  .  .  .  .  .  .  .  .
request_only COOKIE_ECHO        CR CR CR .  .  .  .  .  .  .  .
request_only COOKIE_ACK         CR .  .  .  .  .  .  .  .  .  .
request_only SHUTDOWN           CR .  .  .  SR SR .  .  .  .  .
request_only SHUTDOWN_ACK       CR .  .  .  CL CL .  CL .  .  .
request_only SHUTDOWN_COMPLETE  CR .  .  .  .  .  .  CL .  .  .
request_only ERROR              CR .  .  .  .  .  .  .  .  .  .
request_only ABORT              CL CL CL CL CL CL CL CL CL CL .
";

#[test]
fn every_state_chunk_and_direction_leads_where_the_table_says() {
    let names = [
        "NO", "I1", "IN", "CS", "CR", "ES", "SS", "SR", "SA", "RJ", "CL",
    ];
    let directions = [Direction::Request, Direction::Reply, Direction::RequestOnly];
    let rows = TABLE.lines().filter(|line| !line.is_empty());
    let pairs = directions
        .into_iter()
        .flat_map(|direction| Event::ALL.map(|event| (direction, event)));
    let mut count = 0;
    for (row, (direction, event)) in rows.zip(pairs) {
        let ends = row.split_whitespace().skip(2);
        for ((state, name), end) in STATES.into_iter().zip(names).zip(ends) {
            let next = next_sctp(state, direction, event);
            let place = STATES.iter().position(|other| *other == next).unwrap();
            let expected = if end == "." { name } else { end };
            assert_eq!(names[place], expected, "{row}: from {name}, {event:?}");
            count += 1;
        }
    }
    assert_eq!(count, 3 * 10 * 11);
}

/// One step of a walk: who sends, which chunk, and the state afterwards.
#[test]
fn whole_associations_are_walked_by_name() {
    use Direction::{Reply, Request, RequestOnly};
    let walks: [&[(Direction, Event, &str)]; 5] = [
        &[
            (Request, Event::Init, "init1"),
            (Request, Event::Init, "init"),
            (Reply, Event::InitAck, "cookie_sent"),
            (Request, Event::CookieEcho, "cookie_replied"),
            (Reply, Event::CookieAck, "established"),
            (Request, Event::Data, "established"),
            (Request, Event::Shutdown, "shutdown_received"),
            (Reply, Event::ShutdownAck, "shutdown_ack_sent"),
            (Request, Event::ShutdownComplete, "closed"),
        ],
        &[
            (Request, Event::Init, "init1"),
            (Reply, Event::InitAck, "cookie_sent"),
            (Request, Event::CookieEcho, "cookie_replied"),
            (Reply, Event::CookieAck, "established"),
            (Reply, Event::Shutdown, "shutdown_sent"),
            (Request, Event::ShutdownAck, "closed"),
            (Reply, Event::ShutdownComplete, "closed"),
            (Request, Event::Init, "init"),
        ],
        &[
            (Request, Event::Init, "init1"),
            (Reply, Event::Abort, "rejected"),
            (Request, Event::Init, "init"),
        ],
        &[
            (RequestOnly, Event::Init, "init1"),
            (RequestOnly, Event::CookieEcho, "cookie_replied"),
            (RequestOnly, Event::Data, "established"),
            (RequestOnly, Event::Shutdown, "shutdown_received"),
            (RequestOnly, Event::ShutdownComplete, "closed"),
        ],
        &[
            (RequestOnly, Event::Init, "init1"),
            (RequestOnly, Event::CookieEcho, "cookie_replied"),
            (RequestOnly, Event::Data, "established"),
            (RequestOnly, Event::ShutdownAck, "closed"),
        ],
    ];
    for walk in walks {
        let mut state = State::None;
        for (direction, event, expected) in walk {
            state = next_sctp(state, *direction, *event);
            assert_eq!(state.name(), *expected, "after {event:?} in {walk:?}");
        }
    }
}

/// What no packet of a client can do alone.
#[test]
fn only_the_real_server_establishes_what_weir_sees_both_ways() {
    for state in STATES {
        for event in Event::ALL {
            let next = next_sctp(state, Direction::Request, event);
            assert!(
                next != State::SctpEstablished || state == next,
                "{state:?} {event:?}"
            );
        }
    }
}

#[test]
fn states_are_all_of_sctp_and_keep_the_kernels_times() {
    let of_sctp: Vec<_> = State::ALL.into_iter().filter(|it| it.is_sctp()).collect();
    assert_eq!(of_sctp, STATES[1..]);
    let timeouts = crate::conn::Timeouts::from(&crate::config::TimeoutsConfig::default());
    let seconds: Vec<_> = of_sctp
        .into_iter()
        .map(|state| timeouts.of(state) / 1000)
        .collect();
    assert_eq!(seconds, [4, 61, 61, 61, 900, 61, 61, 61, 4, 61]);
}
