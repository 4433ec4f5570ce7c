//! tcpdump's filter language, compiled by libpcap for frames of Ethernet.

use super::Instruction;
use pcap::{Capture, Linktype};

/// Compiles a filter (pcap-filter(7)); an empty one matches every frame.
///
/// # Errors
/// What libpcap says of it.
pub fn compile(filter: &str) -> Result<Vec<Instruction>, String> {
    let said = |why: pcap::Error| match why {
        pcap::Error::PcapError(text) => text,
        other => other.to_string(),
    };
    let dead = Capture::dead(Linktype::ETHERNET).map_err(said)?;
    let program = dead.compile(filter, true).map_err(said)?;
    let instructions = program.get_instructions().iter().map(|instruction| {
        // The one way that the crate tells the numbers: as `tcpdump -ddd` prints them.
        let text = instruction.to_string();
        let mut numbers = text.split(' ').map(str::parse::<u32>);
        let mut next = || numbers.next()?.ok();
        let (code, jt, jf, k) = (next()?, next()?, next()?, next()?);
        Some(Instruction(
            code.try_into().ok()?,
            jt.try_into().ok()?,
            jf.try_into().ok()?,
            k,
        ))
    });
    let instructions: Option<Vec<_>> = instructions.collect();
    instructions.ok_or_else(|| "libpcap's program cannot be read".to_owned())
}
