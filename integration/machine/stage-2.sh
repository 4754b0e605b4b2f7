#!/bin/bash
# The machine's process 1 until systemd is: what NixOS's stage 2 does. It activates the default of
# the boot loader, if there is one yet, so that systemd finds that system's units.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
if [ -L /boot/default ]; then
  toplevel=$(readlink /boot/default)
  "$toplevel/activate"
  ln -sfn "$toplevel" /run/booted-system
fi
exec /lib/systemd/systemd
