//! The connection log, as the configuration has it.

use super::Control;
use crate::config::ConnectionLog;
use crate::connection_log::{Counts, Logger, Records};
use crate::view::ConnectionLogCounts;
use std::sync::Arc;

/// What the log was told last.
#[derive(Debug, Default)]
pub(super) struct Logging {
    told: Option<ConnectionLog>,
    /// None: there was none to write yet.
    logger: Option<Logger>,
}

impl Logging {
    pub(super) fn counts(&self) -> ConnectionLogCounts {
        let Counts {
            written,
            overrun,
            unwritten,
        } = (self.logger.as_ref()).map_or_else(Counts::default, Logger::counts);
        ConnectionLogCounts {
            written,
            overrun,
            unwritten,
        }
    }
}

impl Control {
    /// Has the log follow the configuration. Its memory and its thread are there from the first moment on that there is one to
    /// write, until weir stops.
    pub fn follow_connection_log(&mut self) {
        let wanted = &self.model.config().connection_log;
        if *wanted == self.logging.told {
            return;
        }
        self.logging.told = wanted.clone();
        if self.logging.logger.is_none() {
            self.stats.want_logged();
            let records = self.workers.iter().map(|worker| {
                let made = || Arc::new(Records::new());
                worker.mailbox.records.get_or_init(made).clone()
            });
            let clock = self.clock;
            let started = Logger::start(records.collect(), self.stats.clone(), move || clock.now());
            match started {
                Ok(logger) => self.logging.logger = Some(logger),
                Err(why) => {
                    return tracing::error!("no connection log: its thread cannot start: {why}");
                }
            }
        }
        if let Some(logger) = &self.logging.logger {
            logger.set(wanted.as_ref());
        }
    }
}
