#!/bin/busybox sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The first program of a domain that nobody ordered: kernel and drivers of a guest, and none of what protects it. It loads
# the drivers, prepares the network card, and goes on with /program, which has $b, $host and `address`.
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
exec < /dev/hvc0 > /dev/hvc0 2>&1
host=fe80::fcff:ffff:feff:ffff
# In the order of the guest's own first program: one needs what another brings.
for module in $($b cat /etc/modules); do $b modprobe "$module"; done
while [ ! -e /sys/class/net/eth0 ] || [ ! -b /dev/xvda ]; do
    $b modprobe -a -q -b $($b cat /sys/bus/*/devices/*/modalias | $b sort -u)
    $b usleep 100000
done
# Duplicates are not looked for: an address is there at once.
echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad
$b ip link set lo up
$b ip link set eth0 up
while ! $b ip -6 route add default via $host dev eth0; do $b usleep 100000; done

address() { # ADDRESS: from here on it is this domain's only one, beside that of the link
    $b ip -6 addr flush dev eth0 scope global
    $b ip -6 addr add "$1/128" dev eth0
}

. /program
