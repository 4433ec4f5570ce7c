//! `--connection-log`: what begins and ends, as the daemon logs it.

use super::{Engine, Errors, unwritable};
use crate::config::{Config, ConnectionLog, LogDestination, LogFormat};
use crate::connection_log::Encoder;
use crate::units::Time;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

pub(super) struct RecordFile {
    path: PathBuf,
    file: BufWriter<File>,
    pub log: ConnectionLog,
    encoder: Encoder,
    /// The last packet's time, in milliseconds.
    now: i64,
}

impl RecordFile {
    pub(super) fn create(path: &Path, config: &Config) -> Result<Self, Errors> {
        let to = LogDestination::File(path.to_owned());
        let log = match &config.connection_log {
            Some(log) => ConnectionLog { to, ..log.clone() },
            None => ConnectionLog {
                to,
                format: LogFormat::Json,
                sample: 1,
                starts: true,
                ends: true,
                domain: 0,
            },
        };
        let file = File::create(path).map_err(|error| unwritable(path, &error))?;
        Ok(RecordFile {
            path: path.to_owned(),
            file: BufWriter::new(file),
            encoder: Encoder::new(&log),
            log,
            now: 0,
        })
    }

    /// Writes what has happened until `time`.
    pub(super) fn write(&mut self, engine: &Engine, time: Time) -> Result<(), Errors> {
        self.now = (time.nanos() / 1_000_000) as i64;
        let (file, mut written) = (&mut self.file, Ok(()));
        for record in engine.take_records() {
            // The clock of captures counts from 1970.
            let times = (0, self.now);
            (self.encoder).add(&record, engine.stats(), times, &mut |bytes, _| {
                keep(&mut written, file.write_all(bytes))
            });
        }
        written.map_err(|error| unwritable(&self.path, &error))
    }

    /// # Errors
    /// If the file cannot be written, or does not have all records.
    pub(super) fn finish(mut self, engine: &Engine) -> Result<(), Errors> {
        let (file, mut written) = (&mut self.file, Ok(()));
        (self.encoder).finish(self.now, &mut |bytes, _| {
            keep(&mut written, file.write_all(bytes))
        });
        keep(&mut written, file.flush());
        written.map_err(|error| unwritable(&self.path, &error))?;
        match engine.lost_records() {
            0 => Ok(()),
            lost => Err(vec![format!(
                "{}: {lost} records are missing: so many connections began or ended between two packets that their queue was full",
                self.path.display()
            )]),
        }
    }
}

/// Keeps the first error. Returns whether there is none.
fn keep(written: &mut io::Result<()>, next: io::Result<()>) -> bool {
    if written.is_ok() {
        *written = next;
    }
    written.is_ok()
}
