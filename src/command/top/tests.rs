//! The screen, drawn into memory.

use super::draw::WORKER_COLUMNS;
use super::list::Row;
use super::look::OFFENDERS;
use super::*;
use crate::view;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::collections::BTreeMap;

pub(super) fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

/// The names of the services, in the order of the screen.
fn order(screen: &Screen) -> Vec<&str> {
    screen
        .services
        .shown()
        .map(|row| row.name.as_str())
        .collect()
}

/// A sample of two services, the second of which has `packets` packets in.
pub(super) fn sample(at: Instant, packets: u64) -> Sample {
    let traffic = |packets| view::TrafficView {
        packets_in: packets,
        bytes_in: packets * 100,
        active_connections: 3,
        ..view::TrafficView::default()
    };
    let service = |name: &str, last, packets| view::ServiceView {
        name: name.into(),
        protocol: "tcp".into(),
        address: [192, 0, 2, last].into(),
        port: view::PortsView::One(80),
        mode: "dr".into(),
        scheduler: "rr".into(),
        flags: vec![],
        local_pool: None,
        via: view::ViaView::default(),
        persistence_s: None,
        persistence_prefix: None,
        one_packet: false,
        admission: None,
        availability: view::AvailabilityView::default(),
        traffic: traffic(packets),
        times: None,
        reals: vec![view::MemberView {
            state: view::StateView::default(),
            fallback: false,
            real: "10.0.0.11:80".parse().unwrap(),
            weight: 1,
            up: last == 2,
            traffic: traffic(packets),
            first_byte_us: None,
            times: None,
        }],
    };
    let dropped = [("no_route".to_owned(), packets / 10)];
    let worker = view::WorkerView {
        worker: 0,
        lcore: 1,
        queues: vec![],
        busy_ratio: 0.25,
        connections: 6,
        connection_capacity: 1000,
        evicted_connections: 0,
        received_packets: packets,
        taken_over_packets: 0,
        handed_over_packets: 0,
        transmitted_packets: packets,
        answered_packets: 0,
        local_packets: 0,
        queued_packets: 0,
        waiting_fragments: 0,
        originated_packets: 0,
        dropped_packets: dropped.into(),
        replies: BTreeMap::new(),
        icmp_errors: BTreeMap::new(),
        routed_packets: 0,
        hairpin_connections: 0,
        quic_unknown_ids: 0,
        untold_segments: 0,
        loops: 1,
    };
    Sample {
        at,
        took: Duration::ZERO,
        workers: vec![worker],
        services: vec![service("quiet", 1, 500), service("busy", 2, packets)],
        offenders: vec![],
    }
}

fn lines(screen: &mut Screen) -> Vec<String> {
    drawn(screen, 132, 14)
}

pub(super) fn drawn(screen: &mut Screen, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let width = usize::from(buffer.area.width);
    let symbols: Vec<_> = buffer.content.iter().map(|cell| cell.symbol()).collect();
    symbols
        .chunks(width)
        .map(|line| line.concat().trim_end().to_owned())
        .collect()
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn rates_are_of_the_time_between_two_samples_and_the_busiest_is_first() {
    let start = Instant::now();
    let mut screen = Screen::new("127.0.0.1:9900".into());
    screen.show(Look::between(
        &sample(start, 1000),
        &sample(start + Duration::from_secs(2), 5000),
    ));
    let lines = lines(&mut screen);
    assert_eq!(
        lines[0],
        "weir at 127.0.0.1:9900: services 2, connections 6"
    );
    assert_eq!(lines[1], "packets/s 2.00k in, 2.00k out, 200 dropped");
    let of = |name: &str| {
        let line = lines
            .iter()
            .position(|line| line.starts_with(name))
            .unwrap();
        (line, words(&lines[line]))
    };
    assert_eq!(
        words(&lines[3]),
        ["0", "1", "25.0%", "6", "2.00k", "2.00k", "0", "200"]
    );
    assert!(
        lines.contains(&"Dropped: no_route 200/s".to_owned()),
        "{lines:#?}"
    );
    let (busy, figures) = of("busy");
    assert_eq!(
        figures,
        [
            "busy",
            "tcp:192.0.2.2:80",
            "dr",
            "rr",
            "1/1",
            "3",
            "0",
            "0",
            "2.00k",
            "0",
            "1.60M",
            "0"
        ]
    );
    let (quiet, figures) = of("quiet");
    assert_eq!(figures[3..9], ["rr", "0/1", "3", "0", "0", "0"]);
    assert!(busy < quiet, "{lines:#?}");
}

#[test]
fn keys_sort_scroll_and_quit() {
    let start = Instant::now();
    let mut screen = Screen::new(String::new());
    screen.show(Look::between(
        &sample(start, 1000),
        &sample(start + Duration::from_secs(1), 2000),
    ));
    for _ in 0..ServiceRow::COLUMNS.len() {
        assert!(screen.press(key(KeyCode::Char('s'))));
        lines(&mut screen);
    }
    assert_eq!(order(&screen)[0], "busy", "round once");
    screen.services.begin(Some(1), "");
    assert_eq!(order(&screen)[0], "quiet", "by VIP");
    screen.press(key(KeyCode::Char('r')));
    assert_eq!(order(&screen)[0], "busy", "the other way round");
    for code in [KeyCode::End, KeyCode::PageDown, KeyCode::Up, KeyCode::Home] {
        assert!(screen.press(key(code)));
        lines(&mut screen);
    }
    assert!(!screen.press(key(KeyCode::Char('q'))));
    assert!(!screen.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
}

/// Two samples of so many services with the longest addresses, and names of so many characters.
fn many(services: u8, workers: u8, name: usize) -> Screen {
    let start = Instant::now();
    let of = |at, packets| {
        let mut sample = sample(at, packets);
        let (model, worker) = (sample.services.remove(1), sample.workers.remove(0));
        sample.services.clear();
        for n in 0..services {
            sample.services.push(view::ServiceView {
                name: format!("{n:03}{}{n:03}", "-".repeat(name - 6)),
                address: [203, 100, 113, 100 + n].into(),
                port: view::PortsView::One(10_000),
                ..model.clone()
            });
        }
        for n in 0..workers {
            sample.workers.push(view::WorkerView {
                worker: n,
                busy_ratio: f64::from(n) / 100.0,
                ..worker.clone()
            });
        }
        sample
    };
    let mut screen = Screen::new("unix:/run/weir/weir.sock".into());
    screen.show(Look::between(
        &of(start, 1000),
        &of(start + Duration::from_secs(1), 124_456),
    ));
    screen
}

#[test]
fn eighty_columns_hold_names_addresses_and_rates_whole() {
    // With the longest address, a name of 12 is whole; a longer one keeps both its ends.
    for (name, shown) in [(8, "007--007"), (12, "007------007"), (30, "007---…--007")] {
        let mut screen = many(40, 1, name);
        let lines = drawn(&mut screen, 80, 24);
        assert!(lines.iter().all(|line| line.chars().count() <= 80));
        let line = lines.iter().find(|line| line.starts_with("007")).unwrap();
        let figures = ["tcp:203.100.113.107:10000", "0", "123k", "0", "98.8M", "0"];
        let mut found = words(line);
        assert_eq!(found.remove(0), shown, "{line}");
        // What there is room for besides comes before the rates.
        assert_eq!(found.remove(0), figures[0], "{line}");
        assert!(found.ends_with(&figures[1..]), "{line}");
        let header = lines
            .iter()
            .find(|line| line.starts_with("Service"))
            .unwrap();
        for rate in ["Conn/s", "InPkt/s", "OutPkt/s", "InBit/s", "OutBit/s"] {
            assert!(words(header).contains(&rate), "{header}");
        }
    }
}

#[test]
fn forty_services_are_reached_and_told_apart() {
    for name in [8, 60] {
        let mut screen = many(40, 1, name);
        drawn(&mut screen, 80, 24);
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..40 {
            let lines = drawn(&mut screen, 80, 24);
            let rows = lines.iter().filter(|line| line.contains("tcp:203."));
            seen.extend(rows.map(|line| line.split("tcp:").next().unwrap().to_owned()));
            // The selected one is told in full.
            let full = order(&screen)[n].to_owned();
            let title = format!("{} of 40: {full}", n + 1);
            assert!(lines.contains(&title), "{title}: {lines:#?}");
            screen.press(key(KeyCode::Down));
        }
        assert!(seen.len() >= 40, "{seen:?}");
    }
}

#[test]
fn many_workers_leave_room_for_the_services() {
    let mut screen = many(40, 32, 12);
    let lines = drawn(&mut screen, 80, 24);
    let services = lines.iter().filter(|line| line.contains("tcp:203."));
    assert!(services.count() >= 6, "{lines:#?}");
    assert!(
        lines.contains(&"the busiest 6 of 32 workers".to_owned()),
        "{lines:#?}"
    );
    assert_eq!(words(&lines[3])[0], "31", "{lines:#?}");
}

#[test]
fn sorting_goes_round_the_columns_that_are_shown() {
    let mut screen = many(3, 1, 12);
    drawn(&mut screen, 80, 24);
    let shown = screen.services.columns.clone();
    assert!(shown.len() < ServiceRow::COLUMNS.len(), "{shown:?}");
    for _ in 0..20 {
        screen.press(KeyEvent::new(KeyCode::Char('s'), KeyModifiers::NONE));
        assert!(shown.contains(&screen.services.sort));
    }
}

#[test]
fn once_prints_every_row_and_column_with_whole_figures() {
    let start = Instant::now();
    let mut screen = Screen::new(String::new());
    let after = start + Duration::from_secs(2);
    screen.show(Look::between(
        &sample(start, 1000),
        &sample(after, 2_470_001),
    ));
    let mut text = vec![];
    once::write(&screen, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(words).collect();
    let wanted: &[&[&str]] = &[
        &WORKER_COLUMNS.map(|(name, _)| name),
        &["0", "1", "25.0%", "6", "1234501", "1234501", "0", "123450"],
        &[],
        &ServiceRow::COLUMNS
            .iter()
            .map(|column| column.name)
            .collect::<Vec<_>>(),
        &[
            "busy",
            "tcp:192.0.2.2:80",
            "dr",
            "rr",
            "1/1",
            "3",
            "0",
            "0",
            "1234501",
            "0",
            "987600400",
            "0",
        ],
        &[
            "quiet",
            "tcp:192.0.2.1:80",
            "dr",
            "rr",
            "0/1",
            "3",
            "0",
            "0",
            "0",
            "0",
            "0",
            "0",
        ],
        &[],
        &["Drop", "reason", "Drop/s"],
        &["no_route", "123450"],
    ];
    assert_eq!(lines, wanted, "{text}");
}

#[test]
fn a_service_that_began_anew_has_no_negative_rates() {
    let start = Instant::now();
    let mut screen = Screen::new(String::new());
    screen.show(Look::between(
        &sample(start, 9000),
        &sample(start + Duration::from_secs(1), 10),
    ));
    assert!(
        screen
            .services
            .shown()
            .all(|row| row.rates.packets_in == 0.0)
    );
}

#[test]
fn refused_clients_are_shown_as_far_as_there_is_room() {
    let start = Instant::now();
    let mut now = sample(start + Duration::from_secs(1), 1000);
    let client = |n: u32, refused| view::OffenderView {
        service: "busy".into(),
        client: format!("2001:db8:1111:{n:04x}::/64"),
        refused,
        begun: 7,
        missing: 0,
    };
    now.offenders = (0..9).map(|n| client(n, 12_345 / (n + 1))).collect();
    now.offenders.push(client(99, 0));
    let mut screen = Screen::new("unix:/run/weir/weir.sock".into());
    screen.show(Look::between(&sample(start, 500), &now));
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let text = terminal.backend().to_string();
    let line = text
        .lines()
        .find(|line| line.contains("Refused clients:"))
        .unwrap();
    assert!(
        line.contains("2001:db8:1111:0000::/64 12.3k") && line.contains('…'),
        "{line}"
    );
    let mut out = Vec::new();
    once::write(&screen, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let rows: Vec<_> = text.lines().filter(|line| line.contains("::/64")).collect();
    assert_eq!(rows.len(), OFFENDERS, "{text}");
    assert!(rows[0].contains("busy") && rows[0].ends_with('7'), "{text}");
}

#[test]
fn real_servers_without_new_connections_are_named_with_the_reason() {
    let start = Instant::now();
    let with = |why: Option<&str>, fallback| {
        let mut sample = sample(start, 1000);
        let real = &mut sample.services[0].reals[0];
        real.state.why = why.map(str::to_owned);
        real.fallback = fallback;
        sample
    };
    let mut screen = Screen::new("127.0.0.1:9900".into());
    let mut shown = |why, fallback| {
        let sample = with(why, fallback);
        screen.show(Look::between(&sample, &sample));
        let mut printed = Vec::new();
        once::write(&screen, &mut printed).unwrap();
        let drawn = drawn(&mut screen, 100, 20);
        let line = drawn.into_iter().find(|line| line.starts_with("No new"));
        (line, String::from_utf8(printed).unwrap())
    };
    let (line, printed) = shown(Some("down: connection refused"), false);
    let expected = "No new connections: 10.0.0.11:80 of quiet (down: connection refused)";
    assert_eq!(line.as_deref(), Some(expected));
    let row = printed
        .lines()
        .find(|line| line.starts_with("10.0.0.11:80"));
    let row = row.map(|row| {
        row.split("  ")
            .filter(|it| !it.is_empty())
            .map(str::trim)
            .collect::<Vec<_>>()
    });
    let row = row.unwrap();
    assert_eq!(row, ["10.0.0.11:80", "quiet", "down: connection refused"]);
    for (why, fallback) in [(None, false), (Some("a fallback server, not in use"), true)] {
        let (line, printed) = shown(why, fallback);
        assert_eq!(line, None);
        assert!(!printed.contains("10.0.0.11"), "{printed}");
    }
}

#[test]
fn enter_shows_the_real_servers_of_a_service_and_escape_goes_back() {
    let start = Instant::now();
    let of = |at, packets: u64| {
        let mut sample = sample(at, packets);
        let real = sample.services[1].reals[0].clone();
        for (n, why) in [(12, None), (13, Some("down: connection refused"))] {
            let mut other = real.clone();
            other.real = format!("10.0.0.{n}:80").parse().unwrap();
            other.traffic.packets_in = packets / n;
            other.state.why = why.map(str::to_owned);
            if why.is_some() {
                other.state.health = crate::service::Health::Down;
                other.weight = 0;
                other.state.configured_weight = 5;
            }
            sample.services[1].reals.push(other);
        }
        sample
    };
    let mut screen = Screen::new("127.0.0.1:9900".into());
    let (before, now) = (of(start, 1200), of(start + Duration::from_secs(1), 5100));
    screen.show(Look::between(&before, &now));
    drawn(&mut screen, 80, 24);
    assert!(screen.press(key(KeyCode::Enter)));
    let rows = |lines: &[String]| -> Vec<String> {
        let rows = lines.iter().filter(|line| line.starts_with("10.0.0.1"));
        rows.cloned().collect()
    };
    let lines = drawn(&mut screen, 80, 24);
    assert_eq!(lines[0], "busy");
    assert!(
        lines[1].starts_with("tcp:192.0.2.2:80   dr   rr   2 of 3 up"),
        "{lines:#?}"
    );
    let found = rows(&lines);
    assert_eq!(found.len(), 3, "{lines:#?}");
    assert!(words(&found[0]).contains(&"3.90k"), "{found:#?}");
    assert!(
        words(&found[0]).starts_with(&["10.0.0.11:80", "up"]),
        "{found:#?}"
    );
    assert!(
        words(&found[2]).starts_with(&["10.0.0.13:80", "down"]),
        "{found:#?}"
    );
    // All of the selected one, its reason too.
    screen.press(key(KeyCode::End));
    let lines = drawn(&mut screen, 80, 24);
    for line in ["3 of 3: 10.0.0.13:80", "down: connection refused"] {
        assert!(lines.contains(&line.to_owned()), "{line}: {lines:#?}");
    }
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("down   weight 0 (in the file 5)"))
    );
    // Where there is room, each row has it.
    let lines = drawn(&mut screen, 132, 24);
    assert!(
        rows(&lines)[2].ends_with("down: connection refused"),
        "{lines:#?}"
    );

    // A filter of their own: Escape ends that first.
    for letter in "/.13".chars() {
        screen.press(key(KeyCode::Char(letter)));
    }
    let lines = drawn(&mut screen, 80, 24);
    assert_eq!(rows(&lines).len(), 1, "{lines:#?}");
    assert_eq!(lines[23], "/.13");
    screen.press(key(KeyCode::Enter));
    screen.press(key(KeyCode::Esc));
    assert_eq!(rows(&drawn(&mut screen, 80, 24)).len(), 3);
    screen.press(key(KeyCode::Esc));
    assert!(drawn(&mut screen, 80, 24)[0].starts_with("weir at "));

    // One that is removed meanwhile.
    screen.press(key(KeyCode::Enter));
    let mut later = of(start + Duration::from_secs(2), 5100);
    later.services.remove(1);
    screen.show(Look::between(&now, &later));
    let lines = drawn(&mut screen, 80, 24);
    assert!(lines[0].starts_with("weir at "), "{lines:#?}");
    assert_eq!(lines[23], "busy is no longer configured");
}

#[test]
fn a_filter_finds_names_addresses_and_real_servers() {
    let start = Instant::now();
    let mut screen = Screen::new(String::new());
    screen.show(Look::between(&sample(start, 1000), &sample(start, 1000)));
    for (filter, found) in [
        ("", &["quiet", "busy"][..]),
        ("BUS", &["busy"]),
        ("192.0.2.1:", &["quiet"]),
        ("10.0.0.11", &["quiet", "busy"]),
        ("rr", &["quiet", "busy"]),
        ("nothing", &[]),
    ] {
        screen.press(key(KeyCode::Char('/')));
        screen.press(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
        filter.chars().for_each(|letter| {
            assert!(
                screen.press(key(KeyCode::Char(letter))),
                "q is a letter here"
            );
        });
        screen.press(key(KeyCode::Enter));
        assert_eq!(order(&screen), found, "{filter}");
        let lines = drawn(&mut screen, 80, 24);
        let count = match found.len() {
            2 => "services 2,".to_owned(),
            n => format!("services {n} of 2,"),
        };
        assert!(lines[0].contains(&count), "{lines:#?}");
        // What is not there cannot be opened.
        screen.press(key(KeyCode::Enter));
        assert_eq!(screen.open.is_some(), !found.is_empty());
        screen.press(key(KeyCode::Esc));
    }
}

#[test]
fn a_selected_service_stays_selected_wherever_it_goes() {
    let start = Instant::now();
    let mut screen = many(30, 1, 12);
    screen.press(key(KeyCode::End));
    let name = |screen: &Screen| screen.services.selected().unwrap().1.name.clone();
    let last = name(&screen);
    assert_eq!(screen.services.selected().unwrap().0, 29);
    screen.press(key(KeyCode::Char('r')));
    screen.press(key(KeyCode::Char('<')));
    assert_eq!(name(&screen), last);
    screen.services.begin(Some(0), "");
    screen.press(key(KeyCode::Char('r')));
    assert_eq!(
        (name(&screen), screen.services.selected().unwrap().0),
        (last, 0)
    );
    // The first is the first, whichever that is.
    screen.press(key(KeyCode::Home));
    screen.press(key(KeyCode::Char('r')));
    assert_eq!(screen.services.selected().unwrap().0, 0);
    screen.show(Look::between(&sample(start, 1), &sample(start, 1)));
    assert_eq!(screen.services.selected().unwrap().0, 0);
}

#[test]
fn help_names_the_keys_and_any_key_ends_it() {
    let mut screen = many(3, 1, 12);
    screen.press(key(KeyCode::Char('?')));
    let lines = drawn(&mut screen, 80, 24);
    for word in ["Enter", "Esc", "quit", "sort", "filter"] {
        assert!(lines.iter().any(|line| line.contains(word)), "{lines:#?}");
    }
    for (key, does) in super::draw::HELP {
        let line = format!("{key:14} {does}").trim_end().to_owned();
        assert!(lines.contains(&line), "{line}: {lines:#?}");
    }
    assert!(screen.press(key(KeyCode::Esc)));
    assert!(drawn(&mut screen, 80, 24)[0].starts_with("weir at "));
    screen.press(key(KeyCode::Char('?')));
    assert!(!screen.press(key(KeyCode::Char('q'))));
}

#[test]
fn json_has_every_service_with_its_real_servers_and_rates() {
    let start = Instant::now();
    let mut screen = Screen::new(String::new());
    let after = start + Duration::from_secs(2);
    screen.show(Look::between(&sample(start, 1000), &sample(after, 5000)));
    let mut text = vec![];
    once::write_json(&screen, &mut text).unwrap();
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
    let look: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let busy = &look["services"][0];
    assert_eq!(busy["name"], "busy");
    assert_eq!(busy["packets_in_per_s"], 2000.0);
    assert_eq!(busy["bits_in_per_s"], 1_600_000.0);
    assert_eq!(
        (&busy["real_servers"], &busy["real_servers_up"]),
        (&1.into(), &1.into())
    );
    assert_eq!(busy["reals"][0]["real"], "10.0.0.11:80");
    assert_eq!(busy["reals"][0]["packets_in_per_s"], 2000.0);
    assert_eq!(look["workers"][0]["received_packets_per_s"], 2000.0);
    assert_eq!(look["drops_per_s"]["no_route"], 200.0);
    assert_eq!(look["seconds"], 2.0);
}

#[test]
fn columns_are_named_as_their_headings() {
    assert_eq!(column("active"), Ok(5));
    assert_eq!(column("InPkt"), Ok(8));
    assert_eq!(column("OutBit/s"), Ok(11));
    let why = column("weather").unwrap_err();
    assert!(
        why.starts_with("there is no such column, but: service, virtual,"),
        "{why}"
    );
}
