//! Which real servers are up: when each is checked, and what the results mean.
//!
//! A state machine without thread, clock or I/O: [`Engine::start`] says which checks are due, [`Engine::finish`] takes what
//! came of them, [`Engine::take_changes`] tells whose state has changed. The probes themselves are in
//! [`probe`](crate::probe). [`Watch`] is another one: what clients' own connections say of a real server.

mod check;
mod engine;
mod passive;
#[cfg(test)]
mod tests;

pub use check::{Finding, Outcome};
pub use engine::{Change, Counts, Engine, Row, Run, Start, Target};
pub use passive::{Ruling, Tally, Watch};
