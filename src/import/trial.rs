//! weir's own check, asked of what is about to be written: what it would refuse is left out, by the line that it came from.

use super::emit::list;
use super::ports::free_near;
use super::{Place, Remarks};
use crate::config;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A port for the trial of a part of a configuration.
pub(super) const TRIAL: &str = "[[port]]\nname = \"trial\"\ndevice = \"net_tap0\"\n";

/// Why a configuration cannot be used, and the line of it that says so, from 1.
pub(super) fn refused(text: &str) -> Option<(usize, String)> {
    let context = config::Context {
        cpus: None,
        devices: false,
    };
    let wrong = config::parse(text, "imported", &context).err()?;
    let first = wrong
        .iter()
        .find(|it| it.severity == config::Severity::Error);
    let first = first.or_else(|| wrong.iter().next())?;
    Some((first.line, first.message.clone()))
}

/// Leaves out what a service cannot have: weir's own check is asked, and what it says is told with the line that is to blame.
pub(super) fn settled(
    mut service: Text,
    mut prelude: String,
    hosts: &BTreeSet<IpAddr>,
    remarks: &mut Remarks,
) -> Option<Text> {
    let taken = BTreeSet::new();
    let nets = hosts.iter().filter_map(|host| free_near(*host, &taken));
    let nets: BTreeSet<_> = nets.collect();
    prelude = format!("{TRIAL}addresses = {}\n{prelude}", list(nets));
    let before = prelude.lines().count();
    loop {
        let Some((line, why)) = refused(&(prelude.clone() + &service.text())) else {
            return Some(service);
        };
        let part = line.checked_sub(before + 1).and_then(|n| service.0.get(n));
        let Some((part, at, what)) = part.map(|it| (it.part, it.at.clone(), it.text.clone()))
        else {
            let at = &service.0.first()?.at;
            remarks.lost(at, format!("the service: {why}"));
            return None;
        };
        if part == Part::Needed {
            remarks.lost(&at, format!("the service: {why}"));
            return None;
        }
        remarks.lost(&at, format!("`{}`: {why}", what.trim()));
        service.0.retain(|it| it.part != part);
    }
}

/// What a line of a service belongs to: one goes with the other lines of its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Without it there is no service.
    Needed,
    Key(usize),
    Health,
    Real(usize),
}

pub(super) struct Line {
    text: String,
    part: Part,
    at: Place,
}

/// The lines of a service, each with the place that it comes from.
#[derive(Default)]
pub(super) struct Text(Vec<Line>);

impl Text {
    pub(super) fn push(&mut self, text: &str, part: Part, at: &Place) {
        let lines = text.lines().map(|text| Line {
            text: text.to_owned(),
            part,
            at: at.clone(),
        });
        self.0.extend(lines);
    }

    pub(super) fn text(&self) -> String {
        self.0
            .iter()
            .map(|line| format!("{}\n", line.text))
            .collect()
    }
}
