//! Any file is a capture or an error.
//!
//! The body of the fuzz target `capture`, which the tests run over `regressions/capture` as well.

use weir::io::pcap::Capture;

pub fn run(input: &[u8]) {
    if let Ok(capture) = Capture::parse(input.to_vec()) {
        capture.frames().for_each(drop);
    }
}
