//! How long real servers take, of services with `histograms`.

/// Of a service, or of one of its real servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimesView {
    /// From a client's first SYN to the SYN-ACK.
    pub connect: HistogramView,
    /// From the first byte of a connection's first request to the first byte of its reply.
    pub first_byte: HistogramView,
}

/// Durations, counted by their length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramView {
    /// In microseconds: what each bucket but the last counts up to.
    pub bounds_us: &'static [u64],
    /// Each without those before it.
    pub buckets: Vec<u64>,
    pub sum: std::time::Duration,
}
