//! Any file is a capture or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::io::pcap::Capture;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(capture) = Capture::parse(bytes.to_vec()) {
        capture.frames().for_each(drop);
    }
});
