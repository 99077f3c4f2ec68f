#!/bin/busybox sh
# Runs the test programs of /guest/plan.sh and tells the host about it on the second serial line. Lines that begin
# with `@@` are ours, those with `|` a test program's.
exec 3>/dev/ttyS1 </dev/null
B=/bin/busybox
$B stty -F /dev/ttyS1 raw -echo
say() { echo "@@ $*" >&3; }

# What a test can leave behind.
census() {
  $B cut -d' ' -f5 /proc/self/mountinfo | $B sed 's/^/mount /'
  $B find /sys/fs/cgroup -path '*/knarr*' -type d 2>/dev/null | $B grep -v '/knarr$' | $B grep -v 'knarr-guest.service' | $B sed 's/^/control group /'
}

left() { $B grep -vxFf /run/before /run/after; }

# suite NUMBER SECONDS DIRECTORY PROGRAM ARGS…: one test program.
suite() {
  number=$1 seconds=$2; shift 2
  $B mkdir -p "$1" && cd "$1" || exit 1
  shift
  say begin $number
  census | $B sort > /run/before
  read -r start _ < /proc/uptime
  $B timeout -s KILL $seconds "$@" > /run/output 2>&1
  code=$?
  read -r end _ < /proc/uptime
  $B sed 's/^/|/; s/\r//g' /run/output >&3
  $B tail -c 1 /run/output | $B grep -q . && echo >&3
  census | $B sort > /run/after
  # The kernel takes its time with some of it.
  for try in 1 2 3 4 5 6 7 8; do
    left | $B grep -q . || break
    $B sleep 0.25; census | $B sort > /run/after
  done
  left | while read -r thing; do say left $number "$thing"; done
  say end $number $code $start $end
}

# A disk of no worth, for tests that throttle one.
$B mkdir -p /disk
$B grep -q ' /disk ' /proc/mounts || $B mount -t ext4 /dev/vda /disk

say hello "$($B uname -r)"
. /guest/plan.sh
say bye
exec $B poweroff -f
