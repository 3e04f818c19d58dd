#!/bin/bash
# boot.sh DIRECTORY GROUP ROOT [PATH ...]: systemd as process 1 of new namespaces, over an overlay in DIRECTORY of a root
# directory, which is / or another distribution's with these paths of this host; its cgroups are GROUP's of the
# hierarchies `systemd` and `unified`, where the host has them.
set -eu
directory=$1 group=$2 lower=$3
if [ "${4-}" != inside ]; then
  for hierarchy in systemd unified; do
    if [ -d "/sys/fs/cgroup/$hierarchy" ]; then
      mkdir "/sys/fs/cgroup/$hierarchy/$group"
      echo $$ > "/sys/fs/cgroup/$hierarchy/$group/cgroup.procs"
    fi
  done
  exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child --propagation private \
    bash "$0" "$directory" "$group" "$lower" inside "${@:4}"
fi
shift 4

root=$directory/root
for path in "$@"; do
  if [ -d "$path" ]; then mkdir -p "$lower$path"; else mkdir -p "$(dirname "$lower$path")" && touch "$lower$path"; fi
done
mkdir -p "$lower$directory/shared"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$directory/upper,workdir=$directory/work" "$root"
mount --bind "$directory/shared" "$root$directory/shared"
for path in "$@"; do mount --bind "$path" "$root$path"; done
cd "$root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 cgroups sys/fs/cgroup
mkdir sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd,xattr cgroup sys/fs/cgroup/systemd
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=755 dev dev
for node in null zero full random urandom tty; do cp -a "/dev/$node" dev; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 shm dev/shm
# The host's engine and counters.
touch run/docker.sock
mount --bind "$(realpath /var/run/docker.sock)" run/docker.sock
mkdir run/cgroup
mount --rbind /sys/fs/cgroup run/cgroup
# None of the host's units and generators.
for wants in usr/lib/systemd/system-generators usr/lib/systemd/system/*.wants etc/systemd/system/*.wants; do
  if [ -d "$wants" ]; then mount -t tmpfs -o mode=755 none "$wants"; fi
done
mkdir -p run/systemd/system
cat > run/systemd/system/boot.target <<'UNIT'
[Unit]
Wants=systemd-journald.socket systemd-journald.service
AllowIsolate=yes
UNIT
mkdir run/host
pivot_root . run/host
exec chroot . /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test \
  SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 SYSTEMD_PROC_CMDLINE='systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1' sh -c \
  'umount -l /run/host && exec /lib/systemd/systemd --system --unit=boot.target --log-target=console --log-level=warning'
