//! ICMP for IPv4 (RFC 792).

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;

pub const ECHO_REPLY: u8 = 0;
pub const DESTINATION_UNREACHABLE: u8 = 3;
pub const SOURCE_QUENCH: u8 = 4;
pub const REDIRECT: u8 = 5;
pub const ECHO_REQUEST: u8 = 8;
pub const TIME_EXCEEDED: u8 = 11;
pub const PARAMETER_PROBLEM: u8 = 12;

/// Codes of [`DESTINATION_UNREACHABLE`].
pub const HOST_UNREACHABLE: u8 = 1;
pub const PORT_UNREACHABLE: u8 = 3;
pub const FRAGMENTATION_NEEDED: u8 = 4;

/// A message that is at least a header long.
#[derive(Clone, Copy, Debug)]
pub struct Icmp<T>(T);

impl<T: AsRef<[u8]>> Icmp<T> {
    /// None if the header is cut short.
    pub fn new_checked(message: T) -> Option<Self> {
        (message.as_ref().len() >= HEADER_LEN).then_some(Icmp(message))
    }

    pub fn kind(&self) -> u8 {
        self.0.as_ref()[0]
    }

    pub fn is_echo_request(&self) -> bool {
        self.kind() == ECHO_REQUEST
    }

    /// RFC 1122 section 3.2.2: the messages that tell of a fault, and quote the packet that met it.
    pub fn is_error(&self) -> bool {
        matches!(
            self.kind(),
            DESTINATION_UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM
        )
    }
}
