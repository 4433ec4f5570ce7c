//! The screen against a model: whatever is configured, whatever the terminal's size and whichever keys are pressed, what must be whole is
//! whole, and what differs differs.

use super::columns::{distinct, elided, fit};
use super::list::Row;
use super::look::{Rates, RealRow};
use super::tests::{drawn, key};
use super::*;
use crate::command::table::short;
use crate::view::PortsView;
use proptest::prelude::*;
use ratatui::crossterm::event::KeyCode;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use unicode_width::UnicodeWidthStr;

/// Names as people give them: alike for long stretches at the beginning, the middle and the end.
fn names() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "web",
        "-production",
        "-eu-central-1",
        "1",
        "2",
        "größe",
        "東京",
        "x",
    ]);
    prop::collection::vec(piece, 1..9).prop_map(|pieces| pieces.concat())
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    let v4 = (0..4_u8).prop_map(|n| IpAddr::from([203, 100, 113, 100 + n]));
    let prefix = 0x2001_0db8_1111_2222_3333_4444_5555_0000_u128;
    let v6 =
        (0..4_u128).prop_map(move |n| IpAddr::from((prefix | (n << 64) | 0x6666).to_be_bytes()));
    prop_oneof![v4, v6]
}

fn rates() -> impl Strategy<Value = Rates> {
    let figure = || prop_oneof![Just(0.0), 0.0..2e3, 0.0..4e11];
    (any::<u32>(), any::<u32>(), prop::array::uniform5(figure())).prop_map(
        |(active, inactive, [connections, packets_in, packets_out, bits_in, bits_out])| Rates {
            active,
            inactive,
            connections,
            packets_in,
            packets_out,
            bits_in,
            bits_out,
        },
    )
}

fn reals() -> impl Strategy<Value = RealRow> {
    let states = [
        "up", "down", "held", "no way", "full", "drained", "disabled", "fallback",
    ];
    let state = prop::sample::select(states.to_vec());
    let why = prop::option::of(".{0,60}");
    (addresses(), any::<u16>(), state, any::<u16>(), rates(), why).prop_map(
        |(address, port, state, weight, rates, why)| RealRow {
            real: (address, port).into(),
            fallback: state == "fallback",
            state,
            weight,
            configured_weight: 1,
            rates,
            why,
        },
    )
}

fn services() -> impl Strategy<Value = Vec<ServiceRow>> {
    let ports = prop_oneof![
        any::<u16>().prop_map(PortsView::One),
        (0..9_u16).prop_map(|n| PortsView::Range(format!("1000{n}-60000")))
    ];
    let reals = prop::collection::vec(reals(), 0..12);
    let service = (names(), any::<bool>(), addresses(), ports, rates(), reals);
    let service = service.prop_map(|(name, is_named, address, port, rates, mut reals)| {
        reals.dedup_by_key(|real| (real.real, real.fallback));
        let text = format!("sctp:{}", port.at(address));
        ServiceRow {
            name: if is_named { name } else { text.clone() },
            vip: (address, port),
            address: text,
            mode: "fullnat".into(),
            scheduler: "rendezvous".into(),
            up: reals.len() / 2,
            count: reals.len(),
            rates,
            reals,
        }
    });
    prop::collection::vec(service, 0..30).prop_map(|mut services| {
        let mut seen = BTreeSet::new();
        services.retain(|service| seen.insert(service.address.clone()));
        services
    })
}

fn keys() -> impl Strategy<Value = Vec<KeyCode>> {
    let letters = "sS<>rjkgG/?11-:w".chars().map(KeyCode::Char);
    let others = [
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Backspace,
        KeyCode::PageDown,
        KeyCode::PageUp,
        KeyCode::End,
    ];
    let key = prop::sample::select(letters.chain(others).collect::<Vec<_>>());
    prop::collection::vec(key, 0..20)
}

/// The lines of the list on the screen: below its heading, up to an empty line or the keys.
fn rows<'a>(lines: &'a [String], heading: &str) -> &'a [String] {
    let top = lines
        .iter()
        .position(|line| line.starts_with(heading))
        .unwrap()
        + 1;
    let end = lines[top..].iter().position(String::is_empty);
    let end = end.map_or(lines.len() - 1, |end| top + end);
    &lines[top..end.max(top)]
}

/// What is seen of a list is what it has, row by row: figures whole, names told from each other.
fn check<R: Row>(lines: &[String], list: &list::List<R>, cells: u16) -> Result<(), TestCaseError> {
    let heading = R::COLUMNS[0].name;
    let seen = rows(lines, heading);
    let shown: Vec<&R> = list.shown().collect();
    prop_assert_eq!(seen.is_empty(), shown.is_empty(), "{:#?}", lines);
    let Some((at, _)) = list.selected() else {
        return Ok(());
    };
    // As many as there is room for, one after the other, and the selected one among them.
    let figures = |row: &R| -> Vec<String> {
        let columns = list
            .columns
            .iter()
            .filter(|&&n| R::COLUMNS[n].kind == columns::Kind::Figure);
        columns.map(|&n| row.cell(n)).collect()
    };
    let has = |line: &String, row: &R| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let figures = figures(row);
        words.windows(figures.len()).any(|words| words == figures)
    };
    let is_window = |first: usize| {
        let window = shown.get(first..first + seen.len());
        window.is_some_and(|window| seen.iter().zip(window).all(|(line, row)| has(line, row)))
    };
    let first = (0..=at)
        .rev()
        .find(|&first| at < first + seen.len() && is_window(first));
    prop_assert!(first.is_some(), "{:#?}", lines);
    let room = lines.len()
        - lines
            .iter()
            .position(|line| line.starts_with(heading))
            .unwrap()
        - 2;
    prop_assert!(seen.len() <= room);
    // Names that differ are shown differently, also from those that cannot be seen now.
    let texts = |n: usize| shown.iter().map(|row| row.cell(n)).collect::<Vec<_>>();
    let longest: Vec<usize> = (0..R::COLUMNS.len())
        .map(|n| texts(n).iter().map(|text| text.width()).max().unwrap_or(0))
        .collect();
    for (n, width) in fit(R::COLUMNS, &longest, cells) {
        if R::COLUMNS[n].kind == columns::Kind::Name && R::COLUMNS[n].rank == 0 {
            let texts = texts(n);
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            told_apart(&texts, width.into())?;
        }
    }
    Ok(())
}

/// Each text fits, and those that differ do so when cut.
fn told_apart(texts: &[&str], cells: usize) -> Result<(), TestCaseError> {
    let cut = distinct(texts, cells);
    let mut by_cut = HashMap::new();
    for (text, cut) in texts.iter().zip(&cut) {
        prop_assert!(cut.width() <= cells, "{} in {}: {}", text, cells, cut);
        let first = *by_cut.entry(cut).or_insert(*text);
        prop_assert_eq!(first, *text, "both are {}", cut);
        if text.width() <= cells {
            prop_assert_eq!(*text, cut);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn names_that_differ_are_told_apart_in_any_width(
        names in prop::collection::vec(names(), 1..60),
        cells in 7..40_usize,
    ) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        told_apart(&names, cells)?;
    }

    #[test]
    fn a_text_is_cut_to_its_cells(text in ".{0,40}", cells in 0..40_usize) {
        prop_assert!(elided(&text, cells).width() <= cells);
    }

    #[test]
    fn every_screen_is_whole(
        services in services(),
        (width, height) in (80..240_u16, 24..70_u16),
        keys in keys(),
    ) {
        let mut screen = Screen::new("unix:/run/weir/weir.sock".into());
        let look = || Look { services: services.clone(), ..Look::default() };
        screen.show(look());
        for (n, code) in keys.into_iter().enumerate() {
            drawn(&mut screen, width, height);
            screen.press(key(code));
            if n % 5 == 4 {
                screen.show(look());
            }
        }
        let lines = drawn(&mut screen, width, height);
        prop_assert_eq!(lines.len(), usize::from(height));
        if screen.is_help {
            return Ok(());
        }
        match &screen.open {
            Some(_) => check(&lines, &screen.reals, width)?,
            None => check(&lines, &screen.services, width)?,
        }
        // The figures in the heading of a service are whole, too.
        if let Some(open) = &screen.open {
            let figure = format!("{} out", short(open.rates.bits_out as u64));
            prop_assert!(lines[2].ends_with(&figure), "{:#?}", lines);
        }
    }

    #[test]
    fn columns_fill_no_more_than_the_screen(
        longest in prop::collection::vec(0..200_usize, 12),
        cells in 80..300_u16,
    ) {
        for columns in [ServiceRow::COLUMNS, RealRow::COLUMNS] {
            let shown = fit(columns, &longest[..columns.len()], cells);
            let used: u16 = shown.iter().map(|(_, width)| width + 1).sum();
            prop_assert!(used <= cells + 1);
            prop_assert!(shown.is_sorted());
            let always = (0..columns.len()).filter(|&n| columns[n].rank == 0);
            for n in always {
                prop_assert!(shown.iter().any(|(column, _)| *column == n));
            }
            for &(n, width) in &shown {
                prop_assert!(usize::from(width) >= columns[n].name.len(), "{}", columns[n].name);
            }
            // What is left out had no room.
            if shown.len() < columns.len() {
                prop_assert!(used + 8 > cells - 12, "{} of {}", used, cells);
            }
        }
    }
}
