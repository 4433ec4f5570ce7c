"""A disk image of a folder: GPT, GRUB for BIOS and for UEFI, ext4. No loop device, nothing is mounted.

    disk.py --root FOLDER --size MIB --work FOLDER IMAGE
"""

import argparse
import pathlib
import struct
import subprocess

SECTOR = 512
MIB = 1 << 20
# First partition: GRUB's core image, for BIOS. Second: for UEFI. Third: the root. In MiB.
BIOS, ESP, ROOT = (1, 1), (2, 16), (18, None)
# What GRUB is to find the root and its grub.cfg with; all of it is in its image, nothing is loaded.
MODULES = ["part_gpt", "ext2", "normal", "linux", "search", "search_label", "configfile", "serial", "terminal", "echo", "test"]
EARLY = """search --no-floppy --set=root --label weir
set prefix=($root)/boot/grub
configfile /boot/grub/grub.cfg
"""


def run(*words, **more):
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL, **more)


def put(image, at, data):
    with open(image, "r+b") as disk:
        disk.seek(at)
        disk.write(data)


def copy_sparse(image, at, source):
    with open(source, "rb") as piece, open(image, "r+b") as disk:
        while block := piece.read(MIB):
            if block.count(0) != len(block):
                disk.seek(at)
                disk.write(block)
            at += len(block)


def partitions(image, size):
    """GPT, the last partition to the end."""
    table = "label: gpt\n"
    types = [
        (BIOS, "21686148-6449-6E6F-744E-656564454649", "bios"),
        (ESP, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "esp"),
        (ROOT, "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "weir"),
    ]
    for (start, length), kind, name in types:
        length = f"size={length}MiB, " if length else ""
        table += f"start={start}MiB, {length}type={kind}, name={name}\n"
    run("sfdisk", "--quiet", image, input=table, text=True)


def core_image(work, target, modules, out):
    (work / "early.cfg").write_text(EARLY)
    run("grub-mkimage", "-O", target, "-c", work / "early.cfg", "-p", "/boot/grub", "-o", out, *modules)


def for_bios(image, work):
    """As grub-bios-setup does it: boot.img in the first sector has the place of the core image, whose own first sector has the place
    of the rest (GRUB_BOOT_MACHINE_KERNEL_SECTOR, and the last block of a blocklist)."""
    core_image(work, "i386-pc", [*MODULES, "biosdisk"], work / "core.img")
    core = bytearray((work / "core.img").read_bytes())
    assert len(core) <= BIOS[1] * MIB, len(core)
    first = BIOS[0] * MIB // SECTOR
    struct.pack_into("<Q", core, SECTOR - 12, first + 1)
    put(image, first * SECTOR, core)
    boot = bytearray(pathlib.Path("/usr/lib/grub/i386-pc/boot.img").read_bytes())
    struct.pack_into("<Q", boot, 0x5C, first)
    # A hard disk is booted from: what firmware says of the drive is believed (GRUB_BOOT_MACHINE_DRIVE_CHECK).
    boot[0x66:0x68] = b"\x90\x90"
    # The partition table behind it is the image's own.
    put(image, 0, boot[:440])


def for_uefi(image, work):
    core_image(work, "x86_64-efi", [*MODULES, "fat", "efi_gop", "efi_uga"], work / "bootx64.efi")
    esp = work / "esp"
    with open(esp, "wb") as file:
        file.truncate(ESP[1] * MIB)
    run("mkfs.vfat", "-n", "ESP", esp)
    run("mmd", "-i", esp, "::EFI", "::EFI/BOOT")
    run("mcopy", "-i", esp, work / "bootx64.efi", "::EFI/BOOT/BOOTX64.EFI")
    copy_sparse(image, ESP[0] * MIB, esp)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("image", type=pathlib.Path)
    options = parser.parse_args()
    image, work, size = options.image, options.work, options.size
    with open(image, "wb") as disk:
        disk.truncate(size * MIB)
    partitions(image, size)
    # The copy of the table at the end takes less than one.
    root = work / "ext4"
    run("mke2fs", "-q", "-t", "ext4", "-L", "weir", "-d", options.root, root, f"{size - ROOT[0] - 1}M")
    copy_sparse(image, ROOT[0] * MIB, root)
    root.unlink()
    for_bios(image, work)
    for_uefi(image, work)


main()
