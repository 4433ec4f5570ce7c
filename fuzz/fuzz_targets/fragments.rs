//! See `fragments.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../fragments.rs"]
mod fragments;

fuzz_target!(|input: &[u8]| fragments::run(input));
