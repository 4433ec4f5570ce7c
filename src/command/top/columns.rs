//! Columns in so many cells: which are shown, how wide, and what is left of a text that is wider.

use std::collections::{HashMap, HashSet};
use unicode_width::UnicodeWidthStr;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// In cells; of one that grows, the least.
    pub(super) width: u16,
    pub(super) kind: Kind,
    /// 0: always shown; the others as far as there is room for them, those with the lowest first.
    pub(super) rank: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// To the left, as wide as its longest text where there is room.
    Name,
    /// To the left.
    Word,
    /// To the right.
    Figure,
}

pub(super) const fn name(name: &'static str, width: u16, rank: u8) -> Column {
    column(name, width, Kind::Name, rank)
}

pub(super) const fn word(name: &'static str, width: u16, rank: u8) -> Column {
    column(name, width, Kind::Word, rank)
}

pub(super) const fn figure(name: &'static str, width: u16, rank: u8) -> Column {
    column(name, width, Kind::Figure, rank)
}

const fn column(name: &'static str, width: u16, kind: Kind, rank: u8) -> Column {
    Column {
        name,
        width,
        kind,
        rank,
    }
}

/// Which columns are shown in so many cells, with their widths; `longest` is that of the texts of each. Of two names that are
/// always shown, the later one (the address) grows first.
pub(super) fn fit(columns: &[Column], longest: &[usize], cells: u16) -> Vec<(usize, u16)> {
    let most = |n: usize| longest[n].min(u16::MAX.into()) as u16;
    let least = |n: usize| match columns[n].kind {
        Kind::Name => columns[n]
            .width
            .min(most(n))
            .max(columns[n].name.len() as u16),
        _ => columns[n].width,
    };
    let (always, mut others): (Vec<_>, Vec<_>) =
        (0..columns.len()).partition(|&n| columns[n].rank == 0);
    let mut shown: Vec<(usize, u16)> = always.into_iter().map(|n| (n, least(n))).collect();
    // Each with the blank before it, which the first has not.
    let used: u16 = shown.iter().map(|(_, width)| width + 1).sum();
    let mut room = (cells + 1).saturating_sub(used);
    for (n, width) in shown.iter_mut().rev() {
        if columns[*n].kind == Kind::Name {
            let more = most(*n).saturating_sub(*width).min(room);
            *width += more;
            room -= more;
        }
    }
    others.sort_by_key(|&n| columns[n].rank);
    for n in others {
        if room > least(n) {
            let width = match columns[n].kind {
                Kind::Name => most(n).max(least(n)).min(room - 1),
                _ => least(n),
            };
            room -= width + 1;
            shown.push((n, width));
        }
    }
    shown.sort_unstable();
    shown
}

/// The first letters of a text, in at most so many cells.
fn first(text: &str, cells: usize) -> &str {
    let ends = text
        .char_indices()
        .map(|(at, letter)| at + letter.len_utf8());
    let fits = ends.take_while(|&end| text[..end].width() <= cells);
    &text[..fits.last().unwrap_or(0)]
}

/// The last letters of a text, in at most so many cells.
fn last(text: &str, cells: usize) -> &str {
    let begins = text.char_indices().rev().map(|(at, _)| at);
    let fits = begins.take_while(|&begin| text[begin..].width() <= cells);
    &text[fits.last().unwrap_or(text.len())..]
}

/// A text in so many cells: of a longer one the beginning and the end, which is where names differ.
pub(super) fn elided(text: &str, cells: usize) -> String {
    if text.width() <= cells {
        return text.to_owned();
    }
    let Some(left) = cells.checked_sub(1) else {
        return String::new();
    };
    format!("{}…{}", first(text, left - left / 2), last(text, left / 2))
}

/// Texts in so many cells each, of which those that differ still do: where the beginning and the end are the same, what follows
/// them in common is left out; where that does not help either, they are numbered.
pub(super) fn distinct(texts: &[&str], cells: usize) -> Vec<String> {
    let mut cut: Vec<String> = texts.iter().map(|text| elided(text, cells)).collect();
    if texts.iter().all(|text| text.width() <= cells) {
        return cut;
    }
    for group in alike(texts, &cut) {
        let common = common(&group.iter().map(|&n| texts[n]).collect::<Vec<_>>());
        for n in group {
            cut[n] = told_by(texts[n], common, cells);
        }
    }
    let mut used: HashSet<String> = cut.iter().cloned().collect();
    let mut numbered = HashMap::new();
    for group in alike(texts, &cut) {
        let mut names: Vec<&str> = group.iter().map(|&n| texts[n]).collect();
        names.sort_unstable();
        names.dedup();
        let mut number = 0;
        for name in names {
            let own = loop {
                number += 1;
                let end = format!("…{number}");
                let begin = first(name, cells.saturating_sub(end.width()));
                let own = format!("{begin}{end}");
                if used.insert(own.clone()) {
                    break own;
                }
            };
            numbered.insert(name, own);
        }
    }
    for (text, cut) in texts.iter().zip(&mut cut) {
        if let Some(own) = numbered.get(text) {
            cut.clone_from(own);
        }
    }
    cut
}

/// The places of those texts that differ and are shown the same, by what they are shown as.
fn alike(texts: &[&str], cut: &[String]) -> Vec<Vec<usize>> {
    let mut groups = HashMap::<&str, Vec<usize>>::new();
    for (n, cut) in cut.iter().enumerate() {
        groups.entry(cut).or_default().push(n);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.retain(|group| group.iter().any(|&n| texts[n] != texts[group[0]]));
    groups.sort_unstable();
    groups
}

/// How many bytes all of these begin with.
fn common(texts: &[&str]) -> usize {
    let same = |text: &&str| {
        let pairs = text.char_indices().zip(texts[0].chars());
        let differs = pairs.into_iter().find(|((_, a), b)| a != b);
        differs.map_or(text.len().min(texts[0].len()), |((at, _), _)| at)
    };
    texts.iter().map(same).min().unwrap_or(0)
}

/// The beginning of a text, and what follows its first `common` bytes.
fn told_by(text: &str, common: usize, cells: usize) -> String {
    let begin = first(text, cells / 3);
    let rest = &text[common.max(begin.len())..];
    let room = cells.saturating_sub(begin.width() + 1);
    match rest.width() <= room {
        true => format!("{begin}…{rest}"),
        false => format!("{begin}…{}…", first(rest, room.saturating_sub(1))),
    }
}
