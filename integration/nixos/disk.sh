#!/bin/bash
# Makes the disk of a virtual machine of the tree in the working directory, whose /boot becomes the ESP:
#   disk.sh DISK
# The ESP begins at 1 MiB and has 128 MiB, the root is the rest.
set -euo pipefail
disk=$1
truncate -s 1700M "$disk"
sfdisk --quiet "$disk" <<END
label: gpt
start=2048, size=262144, type=uefi
start=264192, type=linux
END
esp=$disk.esp
truncate -s 128M "$esp"
mkfs.vfat -F 32 -s 1 "$esp" >/dev/null
mcopy -s -i "$esp" boot/* ::/
mmd -i "$esp" ::/efi/boot
mcopy -i "$esp" /usr/lib/systemd/boot/efi/systemd-bootx64.efi ::/efi/boot/bootx64.efi
dd if="$esp" of="$disk" bs=1M seek=1 conv=notrunc status=none
rm "$esp"
rm -rf boot/*
mkfs.ext4 -q -F -E "offset=$((264192 * 512)),lazy_itable_init=0,lazy_journal_init=0" -d . "$disk" "$(((1700 << 10) - 264192 / 2 - 1024))K"
