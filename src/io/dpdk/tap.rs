//! net_tap and bridges.
//!
//! DPDK's net_tap gives the kernel's side of the TAP the very MAC address of the port. That is two stations with
//! one address: a Linux bridge with that interface in it takes frames to the port's MAC for its own (a permanent
//! fdb entry) and never passes them on, so nothing reaches the port. Neither net_tap's `mac=` argument nor
//! setting the port's MAC helps: both set both sides. What works is to give the kernel's side another address
//! afterwards; the driver does not look at it again. [`Device::start`] does that: the kernel's side gets the
//! port's address with its second byte inverted, and loses the IPv6 link-local address that it has of the first one.

use super::device::TAKEN;
use super::{Device, Error};
use crate::net::Mac;
use dpdk_sys::{rte_eth_dev_info, rte_ether_addr};
use std::ffi::CStr;
use std::mem::MaybeUninit;

impl Device {
    /// See the module: the kernel's side of a TAP must not answer to the TAP's address.
    pub(super) fn part_from_kernel_mac(&self, interface: u32, port: Mac) -> Result<(), Error> {
        let mut mac = port.0;
        mac[1] = !mac[1];
        // SAFETY: the pointer is to six bytes.
        let code = unsafe { dpdk_sys::weir_netdev_set_mac(interface, mac.as_ptr()) };
        self.check("setting the MAC address of the TAP's kernel side", -code)?;
        // What the kernel has made of the port's address already is the port's own as well.
        let link_local = port.link_local().octets();
        // SAFETY: the pointer is to sixteen bytes.
        unsafe { dpdk_sys::weir_netdev_remove_ipv6(interface, link_local.as_ptr()) };
        Ok(())
    }

    /// The same for the TAPs that a bond consists of: those that are no port by themselves.
    pub(super) fn part_members_from_kernel_mac(&self) -> Result<(), Error> {
        let devices = (0..dpdk_sys::RTE_MAX_ETHPORTS as u16).filter(|id| {
            // SAFETY: takes any number.
            unsafe { dpdk_sys::rte_eth_dev_is_valid_port(*id) != 0 }
        });
        for id in devices.filter(|id| !TAKEN.lock().contains(id)) {
            let mut info = MaybeUninit::<rte_eth_dev_info>::zeroed();
            let mut mac = rte_ether_addr { addr_bytes: [0; 6] };
            // SAFETY: the device exists; the pointers are to locals, and the zeroes are a value of what is not filled in.
            let (info, code) = unsafe {
                dpdk_sys::rte_eth_dev_info_get(id, info.as_mut_ptr());
                (
                    info.assume_init(),
                    dpdk_sys::rte_eth_macaddr_get(id, &mut mac),
                )
            };
            self.check("reading the MAC address of a member", code)?;
            // SAFETY: null, or a C string of the driver, which stays loaded.
            let is_tap = !info.driver_name.is_null()
                && unsafe { CStr::from_ptr(info.driver_name) } == c"net_tap";
            if is_tap {
                self.part_from_kernel_mac(info.if_index, Mac(mac.addr_bytes))?;
            }
        }
        Ok(())
    }
}
