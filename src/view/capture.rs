//! What a live capture says: a JSON object a line.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CaptureLine {
    Begin(CaptureBegin),
    Frame(Box<CapturedView>),
    /// Every second.
    Counts(CaptureCounts),
    /// The last line; without one the capture was cut short.
    End(CaptureEnd),
}

/// What captures are told by before their first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct CaptureBegin {
    /// For `DELETE /v1/capture`.
    pub id: u64,
    /// Bytes of a frame that are kept.
    pub snaplen: usize,
    /// The names of the ports.
    pub ports: Vec<String>,
}

/// What was seen since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct CaptureCounts {
    /// Packets that the filter was asked about.
    pub looked_at: u64,
    /// Packets that it was not asked about: that would have taken more of a worker's time than `share`.
    pub passed_over: u64,
    /// Packets that match.
    pub matched: u64,
    /// Of these, not told: the reader was too slow.
    pub lost: u64,
    /// Of these, not told: there were more in a second than `rate`.
    pub over_rate: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct CaptureEnd {
    /// Why it ended: `count`, `seconds`, or `ended` by a request or by weir itself.
    pub why: String,
    pub counts: CaptureCounts,
}

/// A frame as it came in or as it leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct CapturedView {
    /// The same number for a received packet and the frames that are sent for it, counted from 0.
    pub packet: u64,
    /// `received`, `taken_over` (received by another worker, and handed over) or `sent`.
    pub side: String,
    /// Where it came in, or leaves.
    pub port: String,
    pub worker: u8,
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// Of the frame, without VLAN tags, in bytes.
    pub length: usize,
    /// As much of the frame as is kept, in hex.
    pub frame: String,
    /// Of a sent frame: `forwarded`, `answered` or `originated` (weir's own, or the host's).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Of a sent frame: whether it is sent for the received packet of the same number.
    #[serde(default)]
    pub for_packet: bool,
    /// Of a received packet: how many frames are sent for it. They come later.
    #[serde(default)]
    pub sent_frames: u8,
    /// What became of the packet. None of a frame that is sent for no packet, or after a wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<CapturedDecision>,
}

/// What became of a packet, in the words of `weir explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct CapturedDecision {
    /// `forward`, `reply`, `queue`, `local` or `drop`.
    pub verdict: String,
    pub reason: String,
    /// Both as a sentence.
    pub says: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// An address and a port, or an address where the service has every port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real: Option<String>,
    /// Of the service; `snat` of connections of real servers outwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Of the connection, after the packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_port: Option<String>,
}

/// Whether `DELETE /v1/capture` found one to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct CaptureEnded {
    pub ended: bool,
}
