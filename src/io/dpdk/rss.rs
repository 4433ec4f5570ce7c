//! Receive-side scaling: how a device spreads packets over its queues.

use super::Device;
use dpdk_sys::{rte_eth_rss_conf, rte_eth_rss_reta_entry64};
use std::mem::MaybeUninit;

impl Device {
    /// Has the started device spread packets by their hash: to the queue of `queue_of[hash % queue_of.len()]`.
    ///
    /// # Errors
    /// Why the device does not, as a message for the operator. It then spreads packets in its own way.
    pub fn spread(&self, key: &[u8; 40], queue_of: &[u16]) -> Result<(), String> {
        let size = self.info.reta_size;
        let flows = self.info.flow_type_rss_offloads;
        let ports = dpdk_sys::WEIR_RSS_PORTS_V4;
        if size == 0 || flows & ports != ports {
            return Err("the device does not hash addresses and ports".to_owned());
        }
        let Some(wanted_key) = self.rss_key(key) else {
            return Err(format!(
                "the device's hash key has {} bytes: too few for addresses and ports",
                self.info.hash_key_size
            ));
        };
        if usize::from(size) % queue_of.len() != 0 {
            return Err(format!(
                "the device's indirection table has {size} entries, no multiple of {}",
                queue_of.len()
            ));
        }
        if queue_of.iter().any(|queue| *queue >= self.rx_queues) {
            return Err(format!(
                "the device has fewer receive queues ({}) than there are workers",
                self.rx_queues
            ));
        }
        let wanted = |entry: usize| queue_of[entry % queue_of.len()];
        let group = |group: usize| rte_eth_rss_reta_entry64 {
            mask: u64::MAX,
            reta: std::array::from_fn(|entry| wanted(group * 64 + entry)),
        };
        let mut table: Vec<_> = (0..usize::from(size).div_ceil(64)).map(group).collect();
        // SAFETY: the device exists; the table has a group for every 64 of `size` entries.
        let code = unsafe {
            dpdk_sys::rte_eth_dev_rss_reta_update(self.ethdev.id(), table.as_mut_ptr(), size)
        };
        self.check("writing its indirection table", code)
            .map_err(|error| error.to_string())?;
        // What it took is what counts.
        for group in &mut table {
            group.reta = [u16::MAX; 64];
        }
        // SAFETY: as above.
        let code = unsafe {
            dpdk_sys::rte_eth_dev_rss_reta_query(self.ethdev.id(), table.as_mut_ptr(), size)
        };
        self.check("reading its indirection table", code)
            .map_err(|error| error.to_string())?;
        let (found_key, hashed) = self.read_key(wanted_key.len())?;
        let entries = table.iter().flat_map(|group| group.reta);
        let is_ours = entries
            .take(usize::from(size))
            .enumerate()
            .all(|(entry, queue)| queue == wanted(entry));
        if !is_ours || found_key[..key.len()] != key[..] || hashed & ports != ports {
            return Err("the device kept a hash key, table or hash fields of its own".to_owned());
        }
        Ok(())
    }

    /// The key that the started device hashes with, as far as weir uses it; none if the device does not tell, or has a
    /// shorter one.
    pub fn hash_key(&self) -> Option<[u8; 40]> {
        let length = self.rss_key(&[0; 40])?.len();
        let (key, _) = self.read_key(length).ok()?;
        let key = *key.first_chunk()?;
        // Of a driver that has filled nothing in.
        (key != [0; 40]).then_some(key)
    }

    /// The device's key, of so many bytes, and which fields it hashes.
    fn read_key(&self, length: usize) -> Result<(Vec<u8>, u64), String> {
        let mut key = vec![0; length];
        // SAFETY: zero is a value of each of its numbers and pointers.
        let mut conf: rte_eth_rss_conf = unsafe { MaybeUninit::zeroed().assume_init() };
        conf.rss_key = key.as_mut_ptr();
        conf.rss_key_len = key.len() as u8;
        // SAFETY: the device exists; the key has as many bytes as it says.
        let code = unsafe { dpdk_sys::rte_eth_dev_rss_hash_conf_get(self.ethdev.id(), &mut conf) };
        self.check("reading its hash key", code)
            .map_err(|error| error.to_string())?;
        Ok((key, conf.rss_hf))
    }

    /// The key in the device's length; none if that is too short. A hash takes four bytes more of the key than it has
    /// input, so that the bytes behind weir's own never count. Drivers that do not say how long their keys are have keys
    /// of the usual length.
    pub(super) fn rss_key(&self, key: &[u8; 40]) -> Option<Vec<u8>> {
        let length = match self.info.hash_key_size {
            0 => key.len(),
            length => length.into(),
        };
        let mut padded = key.to_vec();
        padded.resize(length.max(key.len()), 0);
        (length >= key.len()).then_some(padded)
    }

    /// Entries of the device's indirection table; 0: it has none.
    pub fn indirections(&self) -> u16 {
        self.info.reta_size
    }
}
