//! Classic BPF: programs that say whether a frame matches a filter, checked once and run often.
//!
//! A program comes from a client of the API, which has it from libpcap's compiler. What [`Program::new`] takes ends on every
//! frame after at most as many steps as it has instructions, and reads nothing but the frame. The machine is the one of
//! McCanne and Jacobson, *The BSD Packet Filter*, with libpcap's two additions (`mod` and `xor`); a frame is treated as by its
//! `bpf_filter`, and the tests hold it against that.

mod compile;

pub use compile::compile;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most instructions of a program: a filter of a hundred addresses has about so many.
pub const MOST: usize = 1024;

/// Words of a program's scratch memory (BPF_MEMWORDS).
const WORDS: usize = 16;

/// An instruction as libpcap's compiler writes it (`struct bpf_insn`): code, jt, jf, k.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Instruction(pub u16, pub u8, pub u8, pub u32);

/// Why a program is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("the filter's program is empty")]
    Empty,
    #[error(
        "the filter's program has {0} instructions, and at most {MOST} are taken: write a shorter one"
    )]
    TooLong(usize),
    #[error("instruction {0} of the filter's program is none of classic BPF")]
    Unknown(usize),
    #[error(
        "instruction {0} of the filter's program jumps back or out of it: `protochain`, which makes loops, is not taken"
    )]
    Jump(usize),
    #[error("instruction {0} of the filter's program uses a word of memory that does not exist")]
    Memory(usize),
    #[error("instruction {0} of the filter's program divides by 0, or shifts by 32 or more")]
    Operand(usize),
    #[error("the filter's program does not end with a return")]
    NoEnd,
}

/// A program that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    steps: Box<[Step]>,
}

/// An instruction, decoded. Offsets of jumps count from the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Into A: bytes of the frame from `at` on, behind X where `is_indexed`.
    Load {
        size: Size,
        at: u32,
        is_indexed: bool,
    },
    LoadConstant(u32),
    LoadMemory(u8),
    LoadLength,
    /// Into X: the same.
    IndexConstant(u32),
    IndexMemory(u8),
    IndexLength,
    /// Into X: four times the low half of a byte, the length of an IPv4 header.
    IndexHeader(u32),
    Store(u8),
    StoreIndex(u8),
    Compute(Operation, Operand),
    Negate,
    Jump(u32),
    Branch {
        test: Test,
        with: Operand,
        if_true: u8,
        if_false: u8,
    },
    Return(u32),
    ReturnAccumulator,
    AccumulatorToIndex,
    IndexToAccumulator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Word,
    Half,
    Byte,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    Constant(u32),
    Index,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Or,
    And,
    Xor,
    ShiftLeft,
    ShiftRight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

impl Program {
    /// Checks a program.
    ///
    /// # Errors
    /// Unless it ends on every frame: its jumps lead forward and not out of it, and its last instruction returns.
    pub fn new(instructions: &[Instruction]) -> Result<Program, Invalid> {
        match instructions.len() {
            0 => return Err(Invalid::Empty),
            length if length > MOST => return Err(Invalid::TooLong(length)),
            _ => {}
        }
        let steps: Result<Box<[Step]>, Invalid> = instructions
            .iter()
            .enumerate()
            .map(|(n, instruction)| {
                let step = Step::read(instruction).ok_or(Invalid::Unknown(n))?;
                step.check(n, instructions.len())?;
                Ok(step)
            })
            .collect();
        let steps = steps?;
        match steps.last() {
            Some(Step::Return(_) | Step::ReturnAccumulator) => Ok(Program { steps }),
            _ => Err(Invalid::NoEnd),
        }
    }

    /// What the program returns for a frame: 0 where it does not match. `length`: that of the frame, of which `frame` may be
    /// the beginning.
    #[inline]
    pub fn run(&self, frame: &[u8], length: usize) -> u32 {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let (mut a, mut x) = (0u32, 0u32);
        let mut memory = [0u32; WORDS];
        let mut next = 0usize;
        // Every jump leads forward: the end of the program ends it at the latest.
        while let Some(step) = self.steps.get(next) {
            next += 1;
            match *step {
                Step::Load {
                    size,
                    at,
                    is_indexed,
                } => {
                    let at = match is_indexed {
                        true => at.checked_add(x),
                        false => Some(at),
                    };
                    match at.and_then(|at| size.read(frame, at)) {
                        Some(value) => a = value,
                        None => return 0,
                    }
                }
                Step::LoadConstant(value) => a = value,
                Step::LoadMemory(word) => a = memory[usize::from(word) % WORDS],
                Step::LoadLength => a = length,
                Step::IndexConstant(value) => x = value,
                Step::IndexMemory(word) => x = memory[usize::from(word) % WORDS],
                Step::IndexLength => x = length,
                Step::IndexHeader(at) => match Size::Byte.read(frame, at) {
                    Some(byte) => x = (byte & 0xf) << 2,
                    None => return 0,
                },
                Step::Store(word) => memory[usize::from(word) % WORDS] = a,
                Step::StoreIndex(word) => memory[usize::from(word) % WORDS] = x,
                Step::Compute(operation, with) => match operation.of(a, with.value(x)) {
                    Some(value) => a = value,
                    None => return 0,
                },
                Step::Negate => a = a.wrapping_neg(),
                Step::Jump(by) => next += by as usize,
                Step::Branch {
                    test,
                    with,
                    if_true,
                    if_false,
                } => {
                    let by = match test.of(a, with.value(x)) {
                        true => if_true,
                        false => if_false,
                    };
                    next += usize::from(by);
                }
                Step::Return(value) => return value,
                Step::ReturnAccumulator => return a,
                Step::AccumulatorToIndex => x = a,
                Step::IndexToAccumulator => a = x,
            }
        }
        0
    }
}

impl Step {
    /// The instruction of these numbers (`net/bpf.h`), if there is such a one.
    fn read(&Instruction(code, jt, jf, k): &Instruction) -> Option<Step> {
        const CLASS: u16 = 0x07;
        const BY_INDEX: u16 = 0x08;
        let class = code & CLASS;
        let with = match code & BY_INDEX {
            0 => Operand::Constant(k),
            _ => Operand::Index,
        };
        // Words beyond the memory are refused by `check`.
        let word = u8::try_from(k).unwrap_or(u8::MAX);
        Some(match class {
            0x00 => match code {
                0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 => Step::Load {
                    size: match code & 0x18 {
                        0x00 => Size::Word,
                        0x08 => Size::Half,
                        _ => Size::Byte,
                    },
                    at: k,
                    is_indexed: code & 0x40 != 0,
                },
                0x00 => Step::LoadConstant(k),
                0x60 => Step::LoadMemory(word),
                0x80 => Step::LoadLength,
                _ => return None,
            },
            0x01 => match code {
                0x01 => Step::IndexConstant(k),
                0x61 => Step::IndexMemory(word),
                0x81 => Step::IndexLength,
                0xb1 => Step::IndexHeader(k),
                _ => return None,
            },
            0x02 if code == 0x02 => Step::Store(word),
            0x03 if code == 0x03 => Step::StoreIndex(word),
            0x04 => {
                let operation = match code & !(CLASS | BY_INDEX) {
                    0x00 => Operation::Add,
                    0x10 => Operation::Subtract,
                    0x20 => Operation::Multiply,
                    0x30 => Operation::Divide,
                    0x40 => Operation::Or,
                    0x50 => Operation::And,
                    0x60 => Operation::ShiftLeft,
                    0x70 => Operation::ShiftRight,
                    0x80 if code == 0x84 => return Some(Step::Negate),
                    0x90 => Operation::Remainder,
                    0xa0 => Operation::Xor,
                    _ => return None,
                };
                Step::Compute(operation, with)
            }
            0x05 => {
                let test = match code & !(CLASS | BY_INDEX) {
                    0x00 if code == 0x05 => return Some(Step::Jump(k)),
                    0x10 => Test::Equal,
                    0x20 => Test::Greater,
                    0x30 => Test::GreaterOrEqual,
                    0x40 => Test::AnyBit,
                    _ => return None,
                };
                Step::Branch {
                    test,
                    with,
                    if_true: jt,
                    if_false: jf,
                }
            }
            0x06 if code == 0x06 => Step::Return(k),
            0x06 if code == 0x16 => Step::ReturnAccumulator,
            0x07 if code == 0x07 => Step::AccumulatorToIndex,
            0x07 if code == 0x87 => Step::IndexToAccumulator,
            _ => return None,
        })
    }

    /// Checks instruction `n` of a program of so many.
    fn check(&self, n: usize, length: usize) -> Result<(), Invalid> {
        let behind = length - n - 1;
        let leads_on = |by: usize| by < behind;
        match *self {
            Step::Jump(by) if !leads_on(by as usize) => Err(Invalid::Jump(n)),
            Step::Branch {
                if_true, if_false, ..
            } if !leads_on(if_true.into()) || !leads_on(if_false.into()) => Err(Invalid::Jump(n)),
            Step::LoadMemory(word)
            | Step::IndexMemory(word)
            | Step::Store(word)
            | Step::StoreIndex(word)
                if usize::from(word) >= WORDS =>
            {
                Err(Invalid::Memory(n))
            }
            Step::Compute(Operation::Divide | Operation::Remainder, Operand::Constant(0)) => {
                Err(Invalid::Operand(n))
            }
            Step::Compute(
                Operation::ShiftLeft | Operation::ShiftRight,
                Operand::Constant(32..),
            ) => Err(Invalid::Operand(n)),
            _ => Ok(()),
        }
    }
}

impl Size {
    /// The number in network order at this place, if all of it is in the frame.
    #[inline]
    fn read(self, frame: &[u8], at: u32) -> Option<u32> {
        let rest = frame.get(at as usize..)?;
        match self {
            Size::Word => rest.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)),
            Size::Half => rest
                .first_chunk()
                .map(|bytes| u16::from_be_bytes(*bytes).into()),
            Size::Byte => rest.first().map(|byte| u32::from(*byte)),
        }
    }
}

impl Operand {
    #[inline]
    fn value(self, x: u32) -> u32 {
        match self {
            Operand::Constant(value) => value,
            Operand::Index => x,
        }
    }
}

impl Operation {
    /// None where a program ends, without a match: it divides by 0.
    #[inline]
    fn of(self, a: u32, b: u32) -> Option<u32> {
        Some(match self {
            Operation::Add => a.wrapping_add(b),
            Operation::Subtract => a.wrapping_sub(b),
            Operation::Multiply => a.wrapping_mul(b),
            Operation::Divide => return a.checked_div(b),
            Operation::Remainder => return a.checked_rem(b),
            Operation::Or => a | b,
            Operation::And => a & b,
            Operation::Xor => a ^ b,
            Operation::ShiftLeft => a.checked_shl(b).unwrap_or(0),
            Operation::ShiftRight => a.checked_shr(b).unwrap_or(0),
        })
    }
}

impl Test {
    #[inline]
    fn of(self, a: u32, b: u32) -> bool {
        match self {
            Test::Equal => a == b,
            Test::Greater => a > b,
            Test::GreaterOrEqual => a >= b,
            Test::AnyBit => a & b != 0,
        }
    }
}

#[cfg(test)]
mod tests;
