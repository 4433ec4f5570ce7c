//! See `wire.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../wire.rs"]
mod wire;

fuzz_target!(|input: &[u8]| wire::run(input));
