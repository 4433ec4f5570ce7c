//! SCTP's chunks by their names, as words say them and frames have them.

use crate::wire::sctp::chunk;
use std::fmt;

/// The type of a chunk that has a name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk(u8);

/// What RFC 9260 section 3.3 has in front of a chunk's variable part, with 1 for tags and numbers, one stream and a window.
const NUMBER: &[u8] = &[0, 0, 0, 1];
const OF_INIT: &[u8] = &[0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1];
const OF_DATA: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
const OF_SACK: &[u8] = &[0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 0, 0, 0];

const ALL: [(&str, u8, &[u8]); 13] = [
    ("INIT", chunk::INIT, OF_INIT),
    ("INIT-ACK", chunk::INIT_ACK, OF_INIT),
    ("COOKIE-ECHO", chunk::COOKIE_ECHO, &[]),
    ("COOKIE-ACK", chunk::COOKIE_ACK, &[]),
    ("DATA", chunk::DATA, OF_DATA),
    ("SACK", chunk::SACK, OF_SACK),
    ("HEARTBEAT", chunk::HEARTBEAT, &[]),
    ("HEARTBEAT-ACK", chunk::HEARTBEAT_ACK, &[]),
    ("SHUTDOWN", chunk::SHUTDOWN, NUMBER),
    ("SHUTDOWN-ACK", chunk::SHUTDOWN_ACK, &[]),
    ("SHUTDOWN-COMPLETE", chunk::SHUTDOWN_COMPLETE, &[]),
    ("ERROR", chunk::ERROR, &[]),
    ("ABORT", chunk::ABORT, &[]),
];

impl Chunk {
    pub const INIT: Chunk = Chunk(chunk::INIT);

    /// Every one.
    pub fn all() -> impl Iterator<Item = Chunk> {
        ALL.iter().map(|(_, kind, _)| Chunk(*kind))
    }

    /// By its name in any case, with dashes or underscores.
    pub(super) fn named(word: &str) -> Option<Chunk> {
        let word = word.replace('_', "-");
        let found = ALL
            .iter()
            .find(|(name, ..)| name.eq_ignore_ascii_case(&word))?;
        Some(Chunk(found.1))
    }

    pub(super) fn kind(self) -> u8 {
        self.0
    }

    /// What is in front of its variable part.
    pub(super) fn fields(self) -> &'static [u8] {
        self.known().map_or(&[], |(.., fields)| fields)
    }

    /// The verification tag of a packet that it is in (section 8.5): the initiate tag of the other side's INIT or INIT ACK in words.
    pub(super) fn usual_tag(self) -> u32 {
        u32::from(self != Chunk::INIT)
    }

    fn known(self) -> Option<&'static (&'static str, u8, &'static [u8])> {
        ALL.iter().find(|(_, kind, _)| *kind == self.0)
    }
}

impl fmt::Display for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some((name, ..)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}
