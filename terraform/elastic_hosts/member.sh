# shellcheck shell=bash disable=SC2034,SC2154 # between what sets npcnix_group and what uses host
# What a member of a group does at each boot, before npcnix is installed: it finds its name, and has systemd run
# `npcnix leave` when the machine is powered off, as at the end of an instance.
#
# Set before it:
#   npcnix_group      the group's name
#   npcnix_asset_tag  default /sys/class/dmi/id/board_asset_tag, which has the instance's ID on Nitro
#
# It sets host to GROUP-INSTANCE-ID.
npcnix_instance_id() {
  local id token try
  id=$(cat "${npcnix_asset_tag:-/sys/class/dmi/id/board_asset_tag}" 2>/dev/null)
  for ((try = 0; ; try++)); do
    if [[ $id =~ ^i-[0-9a-f]{8,17}$ ]]; then
      echo "$id"
      return
    fi
    ((try < 60)) || return 1
    ((try == 0)) || sleep 5
    token=$(curl -sf -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token) || continue
    id=$(curl -sf -m 5 -H "X-aws-ec2-metadata-token: $token" http://169.254.169.254/latest/meta-data/instance-id)
  done
}

# The unit stops after npcnix, which would make its queue again, and while there is still a network. A reboot keeps
# the queue: AWS lets nobody make one of the same name within a minute.
npcnix_leave_at_power_off() {
  systemctl --quiet is-active npcnix-leave.service && return
  systemd-run --quiet --unit=npcnix-leave --description='npcnix: delete the queue of this host when it is powered off' \
    --service-type=oneshot --remain-after-exit --property=Before=npcnix.service \
    --property='After=network-online.target nss-lookup.target' --property=TimeoutStopSec=60 \
    --property='ExecStop=/bin/sh -c "PATH=/run/current-system/sw/bin:/usr/bin:/bin; if systemctl list-jobs --no-legend | grep -Eq \"(poweroff|halt)[.]target +start\"; then npcnix leave; fi"' \
    /bin/sh -c :
}

PATH=$PATH:/run/current-system/sw/bin
if ! host=$npcnix_group-$(npcnix_instance_id); then
  echo 'npcnix-install: neither the firmware nor the instance metadata service tells the instance ID; the next boot tries again' >&2
  exit 1
fi
npcnix_leave_at_power_off || echo 'npcnix-install: the queue of this host will not be deleted when it is powered off' >&2
