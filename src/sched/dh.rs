//! `dh`: by the address that the client asked for (`ip_vs_dh.c`): buckets as those of `sh`, but one each, whatever the weights.
//!
//! A service has one VIP, so that all of its clients come to one real server; services of several VIPs with the same real servers
//! spread over them. A real server that gets nothing passes its part on as with `sh`, where the kernel refuses it.

use super::{Client, Cursor, Kind, Scheduler, Usable, sh};
use crate::service::Real;
use crate::stats::Stats;

pub(super) const KIND: Kind = Kind {
    name: "dh",
    description: "destination hash: by the service's address",
    is_stateless: true,
    new: |reals, setting| {
        Box::new(DestinationHash {
            buckets: sh::deal(reals, |_| 1),
            destination: setting.destination,
        })
    },
};

#[derive(Debug)]
struct DestinationHash {
    buckets: Box<[u16]>,
    destination: u32,
}

impl Scheduler for DestinationHash {
    fn pick(
        &self,
        reals: &[Real],
        _: Client,
        _: &Cursor,
        _: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        sh::pick(&self.buckets, self.destination, reals, usable)
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Lab;

    #[test]
    fn chooses_what_the_kernel_chooses() {
        // Destinations 192.0.2.101, .102, …
        let expected = "ACBCACBABCCABABBCACAABCBABABACACACBCBCBABABACABB";
        let chosen = (0xc000_0265..0xc000_0295u32)
            .map(|vip| Lab::of_vip("dh", &[1, 1, 1], vip).connect(0x0a00_0102));
        assert_eq!(chosen.collect::<String>(), expected);
    }
}
