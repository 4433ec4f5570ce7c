//! See `kept.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../kept.rs"]
mod kept;

fuzz_target!(|input: &[u8]| kept::run(input));
