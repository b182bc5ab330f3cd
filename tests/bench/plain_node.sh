# SPDX-License-Identifier: GPL-3.0-or-later
# A node with all of it off: the same compiler by the same distccd, as a program of a kernel without SELinux.
# shellcheck shell=sh disable=SC2154  # b and address are of molecule/shared/plain_guest.sh
address @OWN@
$b mount -t erofs -o ro /dev/xvda /root
$b mount -t devtmpfs dev /root/dev
$b mount -t proc proc /root/proc
$b mount -t tmpfs -o mode=1777 tmp /root/tmp
echo "plain: ready"
exec $b env -i HOME=/tmp TMPDIR=/tmp PATH=/usr/bin $b chroot /root \
    /usr/bin/distccd --daemon --no-detach --user distccd --listen @OWN@ --port 3632 --allow ::/0 --log-stderr \
    --log-level=error --jobs 1
