//! See `quotes.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../quotes.rs"]
mod quotes;

fuzz_target!(|input: &[u8]| quotes::run(input));
