//! weir on PCI devices: emulated NICs in a guest, with real clients and servers around it (tests/lab/pci.sh). As root only.

mod skip;

use std::process::Command;
use std::sync::Mutex;

/// One guest at a time: each wants both of a small machine's cores.
static MACHINE: Mutex<()> = Mutex::new(());

fn guest(cases: &[&str]) {
    if !rustix::process::geteuid().is_root() {
        return skip::skip("network namespaces take root");
    }
    let _machine = MACHINE.lock();
    let top = env!("CARGO_MANIFEST_DIR");
    let setup = Command::new(format!("{top}/scripts/setup"))
        .arg("guest")
        .status();
    assert!(setup.expect("scripts/setup starts").success());
    let status = Command::new(format!("{top}/scripts/lab"))
        .arg(format!("{top}/tests/lab/pci.sh"))
        .args(cases)
        .env("WEIR", env!("CARGO_BIN_EXE_weir"))
        .env("LAB_SECONDS", "240")
        .status()
        .expect("scripts/lab starts");
    assert!(
        status.success(),
        "scripts/lab tests/lab/pci.sh {cases:?}: {status}"
    );
}

#[test]
fn emulated_nics_forward_by_vfio_and_uio() {
    guest(&[
        "virtio4/vfio-pci/fullnat/4",
        "e1000e/uio_pci_generic/nat",
        "e1000/vfio-pci/dr/0",
        "states/vfio-pci",
    ]);
}

#[test]
fn a_device_that_loses_packets_or_cannot_be_had_is_told_with_the_remedy() {
    guest(&["black-hole", "refusals"]);
}

#[test]
fn weir_setup_takes_a_nic_and_gives_it_back() {
    guest(&["setup"]);
}

#[test]
#[ignore = "a second boot of the guest for a minute, with further pairs of NIC and driver: scripts/test --full runs it"]
fn every_nic_forwards_in_every_mode_by_vfio_and_uio() {
    guest(&[
        "virtio/vfio-pci/dr",
        "virtio/uio_pci_generic/nat",
        "virtio4/uio_pci_generic/nat/2",
        "e1000e/vfio-pci/fullnat",
        "e1000e/uio_pci_generic/dr",
        "vmxnet3/vfio-pci/nat/2",
        "vmxnet3/uio_pci_generic/fullnat",
        "e1000/vfio-pci/nat",
        "e1000/uio_pci_generic/fullnat/0",
        "states/uio_pci_generic",
    ]);
}
