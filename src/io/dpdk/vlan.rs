//! What devices do about VLAN tags, and what room the tags take.

use super::{Device, error};
use crate::net::Vlan;
use dpdk_sys::rte_eth_dev_info;
use std::collections::BTreeSet;

/// What the device itself does about VLAN tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tagging {
    /// It takes an 802.1Q tag off received frames, and tells it beside the frame.
    pub strips: bool,
    /// It puts one on frames that it sends.
    pub inserts: bool,
    /// It drops frames of other VLANs than it is told.
    pub filters: bool,
    /// Frames have two tags.
    is_stacked: bool,
}

impl Tagging {
    /// For ports of these VLANs. What strips one tag of two leaves open which EtherType that had: with two tags all is left to
    /// software.
    pub(super) fn of(info: &rte_eth_dev_info, vlans: &[Vlan]) -> Tagging {
        let is_tagged = vlans.iter().any(|vlan| vlan.tags() > 0);
        let is_stacked = vlans.iter().any(|vlan| vlan.tags() > 1);
        let (rx, tx) = (info.rx_offload_capa, info.tx_offload_capa);
        Tagging {
            strips: is_tagged && !is_stacked && rx & dpdk_sys::WEIR_RX_OFFLOAD_VLAN_STRIP != 0,
            inserts: is_tagged && tx & dpdk_sys::WEIR_TX_OFFLOAD_VLAN_INSERT != 0,
            filters: is_tagged && rx & dpdk_sys::WEIR_RX_OFFLOAD_VLAN_FILTER != 0,
            is_stacked,
        }
    }

    pub(super) fn rx_offloads(self) -> u64 {
        let strip = if self.strips {
            dpdk_sys::WEIR_RX_OFFLOAD_VLAN_STRIP
        } else {
            0
        };
        let filter = if self.filters {
            dpdk_sys::WEIR_RX_OFFLOAD_VLAN_FILTER
        } else {
            0
        };
        strip | filter
    }

    pub(super) fn tx_offloads(self) -> u64 {
        if self.inserts {
            dpdk_sys::WEIR_TX_OFFLOAD_VLAN_INSERT
        } else {
            0
        }
    }
}

/// The largest MTU that the device can be configured with: what it says, as far as the longest frame that it says goes
/// (`eth_dev_validate_mtu`).
pub(super) fn most_mtu(info: &rte_eth_dev_info) -> u16 {
    const OVERHEAD: u32 = 14 + 4;
    let most = u32::from(info.max_mtu);
    if info.max_mtu != u16::MAX && info.max_rx_pktlen > most {
        return info.max_mtu;
    }
    most.min(info.max_rx_pktlen.saturating_sub(OVERHEAD)) as u16
}

impl Device {
    /// Has the started device let the frames of its ports' VLANs in, where it would drop them.
    pub(super) fn admit_vlans(&self) {
        if !self.tagging.filters {
            return;
        }
        // Untagged frames may have a priority tag.
        let ids: BTreeSet<u16> = self
            .vlans
            .iter()
            .map(|vlan| vlan.outer().unwrap_or(0))
            .collect();
        for vlan in ids {
            // SAFETY: the device exists.
            let code = unsafe { dpdk_sys::rte_eth_dev_vlan_filter(self.ethdev.id(), vlan, 1) };
            // Those that know no VLAN 0 let it in.
            if code != 0 && vlan != 0 {
                let (port, why) = (self.name(), error::reason(code));
                tracing::warn!(
                    port,
                    vlan,
                    why,
                    "the device may drop the frames of this VLAN"
                );
            }
        }
    }

    /// Whether the device puts a tag on frames that are sent with [`Mbuf::insert_tag`](super::Mbuf::insert_tag).
    pub fn inserts_tags(&self) -> bool {
        self.tagging.inserts
    }

    /// Who takes tags off and puts them on, for a person.
    pub fn tagging(&self) -> &'static str {
        match (self.tagging.strips, self.tagging.inserts) {
            (true, true) => "by the device",
            (true, false) => "taken off by the device",
            (false, true) => "put on by the device",
            (false, false) => "by software",
        }
    }

    /// What the device is told: drivers leave room for one tag, not for two.
    pub(super) fn link_mtu(&self) -> u16 {
        match self.tagging.is_stacked {
            true => self.mtu.saturating_add(4).min(most_mtu(&self.info)),
            false => self.mtu,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::MaybeUninit;

    fn info(rx: u64, tx: u64) -> rte_eth_dev_info {
        // SAFETY: zero is a value of each of its numbers and pointers.
        let mut info: rte_eth_dev_info = unsafe { MaybeUninit::zeroed().assume_init() };
        (info.rx_offload_capa, info.tx_offload_capa) = (rx, tx);
        info
    }

    #[test]
    fn a_device_without_tagged_ports_is_asked_for_nothing() {
        let all = info(u64::MAX, u64::MAX);
        assert_eq!(Tagging::of(&all, &[Vlan::Untagged]), Tagging::default());
        let tagging = Tagging::of(&all, &[Vlan::Untagged, Vlan::Tagged(7)]);
        assert!(tagging.strips && tagging.inserts && tagging.filters);
        let stacked = Vlan::Stacked { outer: 7, inner: 8 };
        let tagging = Tagging::of(&all, &[stacked, Vlan::Tagged(7)]);
        assert!(!tagging.strips && tagging.inserts && tagging.is_stacked);
        let none = Tagging::of(&info(0, 0), &[Vlan::Tagged(7)]);
        assert_eq!((none.rx_offloads(), none.tx_offloads()), (0, 0));
    }

    #[test]
    fn the_longest_frame_bounds_the_mtu_where_the_driver_names_none() {
        for (max_mtu, frame, most) in [
            (u16::MAX, 1522, 1504),
            (u16::MAX, u32::MAX, u16::MAX),
            (9702, 9728, 9702),
            (9000, 1518, 1500),
        ] {
            let mut info = info(0, 0);
            (info.max_mtu, info.max_rx_pktlen) = (max_mtu, frame);
            assert_eq!(most_mtu(&info), most, "{max_mtu}, {frame}");
        }
    }
}
