//! Connections that outlive the process: in a file in memory, with addresses in the place of ids.
//!
//! The workers' entries themselves are in the file ([`Keeping`]), so that nothing is copied while weir runs, and what was
//! known at the last instruction is there after a crash. An entry names its real server by an id of its process; beside the entries
//! are the names of those ([`Name`]). Both together are a [`Record`]: addresses, protocol, state, times, mode, local pair, template,
//! and what the real server was told. The next process reads records ([`Kept`]), and inserts those that it has a service for
//! into tables of its own, in a file of its own, which takes the place of the former when it is complete.
//!
//! The layout has one version for all of it, [`VERSION`]: the header, names, entries (`conn/entry/memory.rs`) and what is told
//! (`Told::to_bits`). Numbers are in the order of bytes of the machine, which the magic number tells too. A file of another
//! version, of another boot, or that is damaged, is not read; a single entry that was not written as a whole is left out.

mod header;
mod keep;
mod kept;
mod name;
#[cfg(test)]
mod tests;

pub use header::{Header, Section};
pub(crate) use keep::TableMemory;
pub use keep::{Keeping, Names, Place, Unkept};
pub use kept::{Kept, Lost, Record, Source, Unread};
pub use name::Name;

/// Of the layout of all that is in the file. Any change of it takes another number: a file with the former one is not read then.
pub const VERSION: u32 = 1;
