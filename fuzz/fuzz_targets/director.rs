//! See `director.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../director.rs"]
mod director;

fuzz_target!(|input: &[u8]| director::run(input));
