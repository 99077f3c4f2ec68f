#!/bin/busybox sh
# First process of every guest. The kernel's first root can be neither left by pivot_root nor unmounted, so what
# follows lives in a mount over it: the same files again (small guests), or Debian's disk.
B=/bin/busybox
if [ "$1" != again ]; then
  $B mkdir -p /over /proc
  $B mount -t proc proc /proc
  for module in virtio_pci virtio_blk; do $B modprobe $module; done
  if $B grep -q 'knarr.guest=debian' /proc/cmdline; then
    $B mount -t devtmpfs dev /dev
    for try in $($B seq 100); do [ -b /dev/vdb ] && break; $B sleep 0.05; done
    $B mount -t ext4 /dev/vdb /over || exec $B poweroff -f
    $B umount /dev /proc
    $B cp -a /payload/. /over/
    $B rm -rf /payload
    exec $B switch_root /over /sbin/init
  fi
  $B umount /proc
  $B mount --bind / /over
  cd /over && $B mount --move . /
  exec $B chroot . /init again
fi

$B mkdir -p /proc /sys /dev /tmp /run /etc /usr/bin /usr/sbin /sbin /root /var/tmp
$B --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid dev /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev tmpfs /dev/shm
mount -t mqueue -o nosuid,nodev,noexec mqueue /dev/mqueue
mount -t tmpfs -o nosuid,mode=1777 tmpfs /tmp
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /run
mount -t securityfs securityfs /sys/kernel/security
for applet in modprobe chown; do ln -sf /bin/busybox /sbin/$applet; done
ln -sf /bin/env /usr/bin/env
for link in fd:/proc/self/fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -sf ${link#*:} /dev/${link%%:*}; done
ip link set lo up

case $(cat /proc/cmdline) in
*knarr.guest=v1*)
  mount -t tmpfs -o nosuid,nodev,noexec,mode=755 tmpfs /sys/fs/cgroup
  for set in cpu,cpuacct cpuset memory devices freezer blkio pids net_cls,net_prio perf_event hugetlb; do
    mkdir /sys/fs/cgroup/$set
    mount -t cgroup -o nosuid,nodev,noexec,$set cgroup /sys/fs/cgroup/$set || rmdir /sys/fs/cgroup/$set
  done
  mkdir /sys/fs/cgroup/systemd
  mount -t cgroup -o nosuid,nodev,noexec,none,name=systemd cgroup /sys/fs/cgroup/systemd
  for name in cpu cpuacct; do ln -s cpu,cpuacct /sys/fs/cgroup/$name; done
  for name in net_cls net_prio; do ln -s net_cls,net_prio /sys/fs/cgroup/$name; done
  ;;
*)
  mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate cgroup2 /sys/fs/cgroup
  for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo +$controller > /sys/fs/cgroup/cgroup.subtree_control
  done
  ;;
esac

case $(cat /proc/cmdline) in
*knarr.shell*)
  echo; echo "knarr's guest; the tests are listed in /guest/plan.sh. Leave with: exit"
  cd /root; setsid -c sh -l
  ;;
*) /guest/run.sh ;;
esac
poweroff -f
