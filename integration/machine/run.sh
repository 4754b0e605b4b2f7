#!/bin/sh
# Runs one machine, from boot to its end: until it is switched off, or until standard input ends,
# as it does when the test closes it and when the test's process dies of whatever cause. Then
# everything of the machine is killed at once and nothing is left of it but its disk.
#   run.sh NAME ROOT DISK [OPTION OF systemd-nspawn]...
# NAME names its cgroups, ROOT is the file system it shares with others, DISK a folder of its own,
# where this writes: pid, the process that all others die with, and log, the console. Where DISK has
# an image, disk.img, the machine writes to that.
set -eu
name=$1 root=$2 disk=$3
shift 3
rm -f "$disk/pid"

# A machine needs cgroups of its own, else the systemds of several share one. Which hierarchies
# there are differs: /sys/fs/cgroup is one, or holds several.
groups=
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd /sys/fs/cgroup/cpu; do
  [ -e "$hierarchy/cgroup.procs" ] || continue
  mkdir "$hierarchy/$name"
  groups="$groups $hierarchy/$name"
done

# The process that starts nspawn is the first of a process namespace: the kernel kills the rest
# with it. Mounts are in a namespace of their own too, and go as well.
(
  for group in $groups; do echo 0 >"$group/cgroup.procs"; done
  # shellcheck disable=SC2016 # the inner shell expands
  exec unshare --mount --pid --fork --kill-child sh -euc '
    root=$1 disk=$2
    shift 2
    read -r pid rest </proc/self/stat # the number outside: /proc is not yet that of the namespace
    mount -t proc proc /proc
    mkdir -p /run/systemd/nspawn
    mount -t tmpfs tmpfs /run/systemd/nspawn # what nspawn would leave behind when killed
    cd "$disk" # named after a test, whose name may have a comma: one would end an option
    if [ -e disk.img ]; then
      mount -t ext4 -o loop disk.img image # the loop device goes with the mount
      cd image
    fi
    mount -t overlay -o "lowerdir=$root,upperdir=upper,workdir=work" machine "$disk/root"
    cd "$disk"
    echo "$pid" >"$disk/pid.new"
    mv "$disk/pid.new" "$disk/pid"
    status=133 # how nspawn ends when the machine reboots
    while [ "$status" = 133 ]; do
      status=0
      systemd-nspawn --quiet --register=no --keep-unit --directory="$disk/root" "$@" || status=$?
    done
    exit "$status"
  ' sh "$root" "$disk" "$@" </dev/null
) >>"$disk/log" 2>&1 3<&- &
outer=$!

exec 3<&0
{
  cat >/dev/null
  while ! [ -e "$disk/pid" ] && kill -0 "$outer"; do sleep 0.01; done
  kill -KILL "$(cat "$disk/pid")"
} <&3 2>/dev/null &
watch=$!
exec 3<&- </dev/null

status=0
wait "$outer" || status=$?
kill -KILL "$watch" 2>/dev/null || true
for group in $groups; do
  until find "$group" -depth -type d -exec rmdir {} + 2>/dev/null; do sleep 0.01; done
done
kill -0 "$PPID" 2>/dev/null || rm -rf "$disk" # nobody else is left to do so
exit "$status"
