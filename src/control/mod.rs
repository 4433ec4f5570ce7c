//! The control thread: what the workers' world looks like, and how it changes.

pub mod model;
pub mod resolver;
