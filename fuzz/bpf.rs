//! Any program of a filter is refused or ends, on any frame.
//!
//! The body of the fuzz target `bpf`, which the tests run over `regressions/bpf` as well. The input: how many instructions,
//! 8 bytes each (`struct bpf_insn`), and behind them the frame.

use weir::bpf::{Instruction, Program};

pub fn run(input: &[u8]) {
    let Some((count, rest)) = input.split_first() else {
        return;
    };
    let (words, frame) = rest.split_at(rest.len().min(usize::from(*count) * 8));
    let instructions: Vec<_> = words
        .chunks_exact(8)
        .map(|word| {
            let code = u16::from_le_bytes([word[0], word[1]]);
            let k = u32::from_le_bytes([word[4], word[5], word[6], word[7]]);
            Instruction(code, word[2], word[3], k)
        })
        .collect();
    if let Ok(program) = Program::new(&instructions) {
        program.run(frame, frame.len());
    }
}
