//! Health checks at work: a thread of its own asks the real servers what [`health`](crate::health) says is due.
//!
//! It has a tokio runtime, and shares nothing with the workers. A check's time covers all of it, from the first packet to the
//! last byte. What says nothing of the real server (no descriptors left, a program that is missing) is no failure of it.

mod dns;
mod exec;
mod grpc;
mod http;
mod icmp;
mod runner;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod udp;
mod way;
mod words;

pub use runner::{Checks, Lister};

use crate::config::{HealthConfig, Probe};
use crate::health::{Finding, Outcome, Start};
use crate::via::Ways;
use exec::Unprivileged;
use futures_util::FutureExt;
use icmp::Pings;
use regex::bytes::{Regex, RegexBuilder};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tls::Tls;
use tokio::time::timeout;
use way::To;
use words::{Checked, Failure, not_made};

/// What a check waits for, for the words about one that took too long.
struct Stage(Cell<&'static str>);

impl Stage {
    fn new() -> Stage {
        Stage(Cell::new("answer"))
    }

    fn set(&self, stage: &'static str) {
        self.0.set(stage);
    }
}

/// What checks have in common.
struct Tools {
    ways: Arc<Ways>,
    pings: Pings,
    /// Made when a check needs it: it reads the certificates that the machine trusts.
    tls: RefCell<Option<Rc<Tls>>>,
    patterns: RefCell<HashMap<String, Regex>>,
    /// Looked up once.
    users: RefCell<HashMap<String, Unprivileged>>,
    /// Tells queries apart.
    queries: Cell<u16>,
}

impl Tools {
    /// Patterns that are kept compiled.
    const PATTERNS: usize = 1024;

    fn new(seed: u64, ways: Arc<Ways>) -> Tools {
        Tools {
            ways,
            pings: Pings::new(),
            tls: RefCell::default(),
            patterns: RefCell::default(),
            users: RefCell::default(),
            queries: Cell::new(seed as u16),
        }
    }

    /// Forgets what was read of this machine: a reload reads it anew.
    fn forget(&self) {
        self.tls.take();
        self.users.take();
    }

    fn tls(&self) -> Result<Rc<Tls>, Failure> {
        if let Some(known) = &*self.tls.borrow() {
            return Ok(known.clone());
        }
        match Tls::new() {
            Ok(made) => Ok(self.tls.borrow_mut().insert(Rc::new(made)).clone()),
            Err(why) => not_made(format!("TLS: {why}")),
        }
    }

    fn matches(&self, pattern: &str, text: &[u8]) -> Result<bool, Failure> {
        let mut patterns = self.patterns.borrow_mut();
        if let Some(known) = patterns.get(pattern) {
            return Ok(known.is_match(text));
        }
        // The configuration has been checked for that.
        let Ok(compiled) = RegexBuilder::new(pattern).size_limit(1 << 20).build() else {
            return not_made("the regular expression is none");
        };
        // One makes room, whichever: with more than fit, most are still found.
        if patterns.len() >= Self::PATTERNS
            && let Some(other) = patterns.keys().next().cloned()
        {
            patterns.remove(&other);
        }
        let is_match = compiled.is_match(text);
        patterns.insert(pattern.to_owned(), compiled);
        Ok(is_match)
    }

    fn user(&self, name: &str) -> Result<Unprivileged, Failure> {
        let known = self.users.borrow().get(name).copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let found = Unprivileged::find(name).or_else(not_made)?;
        self.users.borrow_mut().insert(name.to_owned(), found);
        Ok(found)
    }

    fn next_query(&self) -> u16 {
        // Not predictable by counting on: a step that is odd visits every number.
        let next = self.queries.get().wrapping_add(0x9e35);
        self.queries.set(next);
        next
    }
}

/// Makes one check.
async fn check(start: &Start, tools: &Tools) -> Outcome {
    let begun = Instant::now();
    let stage = Stage::new();
    let config = &*start.config;
    let work = async {
        let to = To::of(start, &tools.ways)?;
        ask(&to, config, tools, &stage).await
    };
    let work = AssertUnwindSafe(work).catch_unwind();
    let (finding, words) = match timeout(config.timeout, work).await {
        Ok(Ok(Ok(words))) => (Finding::Passed, words),
        Ok(Ok(Err(Failure::Real(words)))) => (Finding::Failed, words),
        Ok(Ok(Err(Failure::Own(words)))) => (Finding::Nothing, words),
        Ok(Ok(Err(Failure::NoWay(words)))) => match words::why_no_route(start.address) {
            Some(why) => (Finding::Nothing, why),
            None => (Finding::Failed, words),
        },
        Ok(Err(_)) => (
            Finding::Nothing,
            "weir panicked over it, see the log".to_owned(),
        ),
        Err(_) => {
            let most = humantime::format_duration(config.timeout);
            let words = match stage.0.get() {
                "answer" => format!("no answer within {most}"),
                stage => format!("{stage}: no answer within {most}"),
            };
            (Finding::Failed, words)
        }
    };
    Outcome {
        finding,
        words: words::plain(words),
        took: begun.elapsed(),
    }
}

async fn ask(to: &To, config: &HealthConfig, tools: &Tools, stage: &Stage) -> Checked {
    match &config.probe {
        Probe::Tcp(exchange) => tcp::check(to, exchange, stage).await,
        Probe::Udp(exchange) => udp::check(to, exchange, config, stage).await,
        Probe::Http(probe) => http::check(to, probe, tools, stage).await,
        Probe::Dns(probe) => dns::check(to, probe, tools.next_query(), stage).await,
        Probe::Icmp => tools.pings.check(to, stage).await,
        Probe::Exec(probe) => exec::check(to.real, probe, tools, stage).await,
        Probe::Grpc(probe) => grpc::check(to, probe, tools, stage).await,
    }
}
