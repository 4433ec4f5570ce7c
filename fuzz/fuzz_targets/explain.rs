//! See `explain.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../explain.rs"]
mod explain;

fuzz_target!(|input: &[u8]| explain::run(input));
