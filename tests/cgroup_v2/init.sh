#!/bin/bash
# The first process of the virtual machine: cgroup version 2 and nothing of version 1, then what the second disk says.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sys /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777,size=2g shm /dev/shm
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
hostname cgroup-v2
cd /mayfly || exit 1
tr -d '\0' < /dev/vdb > /run/work.sh
bash /run/work.sh 2>&1
echo "the exit code is $?"
sync
mount -o remount,ro /
echo o > /proc/sysrq-trigger
sleep 60
