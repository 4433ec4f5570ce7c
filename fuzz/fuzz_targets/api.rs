//! See `api.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../api.rs"]
mod api;

fuzz_target!(|input: &[u8]| api::run(input));
