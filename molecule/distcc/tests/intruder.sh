#!/bin/busybox sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The first program of a domain that nobody ordered. It says on its console what of other guests it reaches, again and again.
# Command line: intruder=OWN_ADDRESS,OTHERS_ADDRESS,NODE_ADDRESS
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
host=fe80::fcff:ffff:feff:ffff
for word in $($b cat /proc/cmdline); do
    case $word in intruder=*) all=${word#intruder=} ;; esac
done
own=${all%%,*}
node=${all##*,}
others=${all#*,}
others=${others%%,*}
while [ ! -e /sys/class/net/eth0 ]; do
    $b modprobe -a -q -b $($b cat /sys/bus/*/devices/*/modalias | $b sort -u)
    $b usleep 100000
done
$b ip link set eth0 up
while ! $b ip -6 route add default via $host dev eth0; do $b usleep 100000; done
$b ip -6 neigh replace $host lladdr fe:ff:ff:ff:ff:ff dev eth0

try() { # NAME SOURCE TARGET PORT
    $b ip -6 addr flush dev eth0 scope global
    $b ip -6 addr add "$2/128" dev eth0 nodad
    if $b nc -w 3 "$3" "$4" < /dev/null > /dev/null 2>&1; then answer=open; else answer=shut; fi
    echo "intruder: $1 $answer" > /dev/console
}

while :; do
    try job "$own" "$node" 3632
    try job-as-another "$others" "$node" 3632
    try authority "$own" "$node" 4460
    try host "$own" "$host%eth0" 4461
    echo "intruder: round over" > /dev/console
done
