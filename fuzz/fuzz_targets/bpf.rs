//! See `bpf.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bpf.rs"]
mod bpf;

fuzz_target!(|input: &[u8]| bpf::run(input));
