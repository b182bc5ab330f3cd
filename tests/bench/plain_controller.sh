# SPDX-License-Identifier: GPL-3.0-or-later
# A controller with all of it off: make and distcc, straight to the nodes, once a line is typed.
# shellcheck shell=sh disable=SC2154  # b and address are of molecule/shared/plain_guest.sh
address @OWN@
$b mount -t erofs -o ro /dev/xvda /root
$b mount -t devtmpfs dev /root/dev
$b mount -t proc proc /root/proc
$b mount -t tmpfs -o mode=1777 tmp /root/tmp
$b mkdir /root/tmp/state
$b cp -a /root/usr/src/@SOURCE@ /root/tmp/build
echo "plain: ready"
read -r go
read -r begin rest < /proc/uptime
$b env -i PATH=/usr/bin HOME=/tmp/state TMPDIR=/tmp/state DISTCC_DIR=/tmp/state \
    DISTCC_HOSTS="[@NODE_A@]:3632/2 [@NODE_B@]:3632/2" DISTCC_BACKOFF_PERIOD=0 DISTCC_FALLBACK=0 \
    DISTCC_SKIP_LOCAL_RETRY=1 $b chroot /root /usr/bin/make -C /tmp/build/@FOLDER@ -j@JOBS@ "CC=distcc gcc" @ARGUMENTS@ \
    > /root/tmp/log 2>&1
code=$?
read -r end rest < /proc/uptime
[ $code -eq 0 ] || $b tail -n 40 /root/tmp/log
echo "plain: code $code from $begin to $end objects $($b find /root/tmp/build -name '*.o' | $b wc -l)"
echo "plain: over"
while :; do $b sleep 3600; done
