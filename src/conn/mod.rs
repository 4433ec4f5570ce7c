//! Connections: the entry, the table that finds it by either direction, its states, its expiry, and fullnat's
//! local ports.

pub mod entry;
pub mod key;
pub mod key6;
pub mod key_any;
pub mod local_port;
pub mod sctp;
pub mod state;
pub mod table;
pub mod told;

pub use entry::{ConnId, Connection, Connection6, ConnectionAny, Translation, Worth};
pub use key::{Address, FlowKey, Key};
pub use key_any::{AnyAddress, FlowKeyAny};
pub use key6::FlowKey6;
pub use local_port::Pool;
pub use state::{Direction, State, Timeouts, own_timeout};
pub use table::{Entry, Found, Place, Table};
pub use told::Told;
