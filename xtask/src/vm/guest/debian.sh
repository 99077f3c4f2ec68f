# Makes Debian's disk: `debian.sh DIRECTORY DISK MODULES PACKAGES`, in a mount namespace of its own, for the packages'
# scripts mount things. The mirror is the one that apt uses.
dir=$1 disk=$2 modules=$3 packages=$4
set -- $(apt-get indextargets --format '$(SITE) $(RELEASE) $(ORIGIN)' "Created-By: Packages" | grep ' Debian$' | grep -v -e -security -e -updates -e -backports | head -n1)
debootstrap --variant=minbase --include="$packages" "$2" "$dir" "$1" >"$dir.log" 2>&1 || { tail -n 5 "$dir.log" >&2; exit 1; }
cd "$dir"
rm -rf var/cache/apt/* var/lib/apt/lists/* usr/share/doc/* usr/share/man/* usr/share/locale/* usr/share/i18n/*
# Compiling these takes the emulator seconds; tests load their own.
find etc/apparmor.d -maxdepth 1 -type f -delete
mkdir -p lib/modules
cp -a "$modules" lib/modules/
chroot . depmod "$(basename "$modules")"
echo guest >etc/hostname
echo 0123456789abcdef0123456789abcdef >etc/machine-id
: >etc/fstab
sed -i 's/^root:[^:]*:/root::/' etc/shadow
mkdir -p guest etc/systemd/system/serial-getty@ttyS0.service.d
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
  e2scrub_reap.service systemd-timesyncd.service systemd-firstboot.service getty@tty1.service; do
  ln -sf /dev/null "etc/systemd/system/$unit"
done
cat >etc/systemd/system/serial-getty@ttyS0.service.d/root.conf <<'UNIT'
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear %I linux
UNIT
cat >etc/systemd/system/knarr-guest.service <<'UNIT'
[Unit]
Description=The tests
[Service]
Type=oneshot
ExecStart=/guest/run.sh
TimeoutStartSec=infinity
Environment=HOME=/root
UNIT
cat >etc/systemd/system/knarr-guest.target <<'UNIT'
[Unit]
Description=A system for tests
Requires=basic.target dbus.socket
Wants=knarr-guest.service
After=basic.target dbus.socket
AllowIsolate=yes
UNIT
sed -i '/^\[Unit\]/a After=basic.target dbus.socket' etc/systemd/system/knarr-guest.service
mke2fs -q -t ext4 -O ^has_journal,^metadata_csum -d . "$disk" 1500M
