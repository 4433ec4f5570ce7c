//! What a port's device string means: a PCI device, a bond of some, or a virtual device.

/// The PCI address of a device string in its full form, which may come without its domain and with arguments; none if it
/// is a virtual device.
pub fn pci_address(device: &str) -> Option<String> {
    let address = device.split(',').next().unwrap_or_default();
    let address = address.strip_prefix("pci:").unwrap_or(address);
    let hex =
        |part: &str, digits| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
    let (place, function) = address.rsplit_once('.')?;
    let parts: Vec<&str> = place.split(':').collect();
    let (domain, bus, slot) = match parts[..] {
        [bus, slot] => ("0000", bus, slot),
        [domain, bus, slot] => (domain, bus, slot),
        _ => return None,
    };
    let valid = hex(domain, 4) && hex(bus, 2) && hex(slot, 2) && hex(function, 1);
    valid.then(|| format!("{domain}:{bus}:{slot}.{function}").to_ascii_lowercase())
}

/// The PCI devices that a device string means: itself, or the members of a bond.
pub fn pci_devices(device: &str) -> Vec<&str> {
    if pci_address(device).is_some() {
        return vec![device];
    }
    // DPDK 23.11 calls members what were slaves before.
    device
        .split(',')
        .filter_map(|argument| {
            argument
                .strip_prefix("slave=")
                .or_else(|| argument.strip_prefix("member="))
        })
        .filter(|member| pci_address(member).is_some())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_told_from_virtual_devices() {
        assert_eq!(pci_address("3B:00.1,x=1").as_deref(), Some("0000:3b:00.1"));
        assert_eq!(pci_address("0001:03:00.0").as_deref(), Some("0001:03:00.0"));
        for device in [
            "net_tap0,iface=weir0",
            "net_pcap0,rx_pcap=a.b:c.0",
            "03:00",
            "g3:00.0",
            "",
        ] {
            assert_eq!(pci_address(device), None, "{device}");
        }
    }

    #[test]
    fn the_members_of_a_bond_are_devices_too() {
        let bond = "net_bonding0,mode=4,slave=0000:03:00.0,member=03:00.1,slave=net_tap0";
        assert_eq!(pci_devices(bond), ["0000:03:00.0", "03:00.1"]);
        assert_eq!(pci_devices("03:00.1,x=1"), ["03:00.1,x=1"]);
        assert!(pci_devices("net_tap0").is_empty());
    }
}
