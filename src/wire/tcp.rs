//! TCP (RFC 9293): what a load balancer looks at.

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// The control bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;

    #[inline]
    pub fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    #[inline]
    pub fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    #[inline]
    pub fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    #[inline]
    pub fn ack(self) -> bool {
        self.0 & Self::ACK != 0
    }

    /// A SYN that opens a connection: nothing else of weight is set.
    #[inline]
    pub fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST | Self::FIN) == Self::SYN
    }
}
