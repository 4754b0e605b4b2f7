#!/bin/bash
# Stands in for bootctl, which wants firmware: of one version, installed already.
case "$*" in
  --version) echo 'systemd 257 (257)' ;;
  *status) printf '  File: └─/EFI/systemd/systemd-bootx64.efi (systemd-boot 257)\n' ;;
esac
