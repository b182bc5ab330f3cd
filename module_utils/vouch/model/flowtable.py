# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of the flow map (``flowmap``): class, permission, direction, kind, reason.

Directions are seen from the subject: ``r`` information comes to it, ``w`` it changes the object, ``b`` both, ``n``
neither. Kinds order what a conflict means: ``code`` is run, ``kernel`` decides for everybody, ``data`` is content,
``ipc`` is asked of or told to a running program, ``name`` says where a path leads, ``net`` crosses the network.

Permissions are judged by what the kernel lets happen after the check (Linux 6.12, security/selinux/hooks.c), not by
their names. Classes of databases and of X (``db_*``, ``x_*``) are left out on purpose: what is not mapped is both.
"""

from __future__ import annotations

FILE = """
read             r data   content comes to the reader
write            w data   content is changed
append           w data   content is added
execute          r code   content is run
execute_no_trans r code   content is run in the same domain
entrypoint       r code   content becomes the domain's program
execmod          r code   a private mapping that was changed is run
map              n -      mapping is checked as reading, writing or running besides
open             n -      reading and writing are checked besides
getattr          n -      size, times and mode: accounting, no content
setattr          w data   length, owner or mode is changed
create           w data   an object of this type is made, its first content chosen
link             w name   another name leads to it
unlink           w name   a name is taken away and may be made again
rename           w name   another object may stand where it stood
mounton          w name   what is below it is hidden behind something else
relabelfrom      n -      judged together with relabelto, as an endorsement
relabelto        w data   content of another origin gets this type
ioctl            n -      of files: attributes and accounting
lock             n -      a lock carries no content
quotaon          n -      accounting
audit_access     n -      only what is audited
watch            n -      that something happened, no content
watch_mount      n -      that something happened, no content
watch_sb         n -      that something happened, no content
watch_reads      n -      that something happened, no content
watch_with_perm  n -      may delay others, changes nothing
"""

DEVICE = """
ioctl            b data   commands of the device go both ways
"""

BLOCK = """
write            w kernel raw blocks: labels and content of a whole file system
append           w kernel raw blocks: labels and content of a whole file system
ioctl            b kernel commands of the device go both ways
"""

DIRECTORY = """
read             r name   the names in it are read
search           r name   a path is followed through it
write            w name   names in it are changed
append           n -      has no meaning for a directory
add_name         w name   a name is added
remove_name      w name   a name is taken away
reparent         w name   it is moved elsewhere
rmdir            w name   it is taken away
create           w name   a directory is made
setattr          w name   who may change it is changed
relabelto        w name   names of another origin get this type
execute          n -      has no meaning for a directory
execmod          n -      has no meaning for a directory
"""

LINK = """
read             r name   the path it holds is followed
write            w name   has no meaning for a link, but changes would lead elsewhere
append           w name   has no meaning for a link, but changes would lead elsewhere
create           w name   a path is chosen for others to follow
setattr          w name   who may change it is changed
relabelto        w name   a path of another origin gets this type
execute          n -      has no meaning for a link
execmod          n -      has no meaning for a link
"""

PIPE = """
read             r ipc    what the other end wrote
write            w ipc    for the other end to read
append           w ipc    for the other end to read
ioctl            n -      how much is waiting
execute          n -      has no meaning for a pipe
execmod          n -      has no meaning for a pipe
"""

SOCKET_FILE = """
read             n -      has no meaning for the name of a socket
write            n -      connecting and sending are checked against who listens
append           n -      has no meaning for the name of a socket
create           w name   whoever connects by this name reaches its maker
execute          n -      has no meaning for a socket
execmod          n -      has no meaning for a socket
"""

SOCKET = """
read             r {kind} what the other end sent
recvfrom         r {kind} what the other end sent
accept           r {kind} the other end chooses when, and what follows
write            w {kind} for the other end
append           w {kind} for the other end
sendto           w {kind} for the other end
ioctl            b {kind} commands of the protocol go both ways
map              r {kind} what the other end sent, without copying
relabelto        w {kind} a socket of another origin gets this type
relabelfrom      n -      judged together with relabelto, as an endorsement
create           n -      what goes through it is checked when it does
bind             n -      an address, no content
connect          n -      what goes through it is checked when it does
listen           n -      what comes is checked when it is accepted and read
getattr          n -      addresses and state
setattr          n -      owner and mode of one's own socket
getopt           n -      options and state
setopt           n -      options of one's own socket
shutdown         n -      an end
lock             n -      a lock carries no content
name_bind        n -      a port number
name_connect     n -      a port number
node_bind        n -      an address
association      n -      what goes through it is checked when it does
attach_queue     n -      what goes through it is checked when it does
"""

UNIX_STREAM = """
connectto        w ipc    the listener takes what is sent from here on
"""

NETLINK = """
nlmsg            b ipc    messages of the kernel's subsystem, asked and answered
nlmsg_read       n -      the kernel answers from its own state
nlmsg_write      w net    the kernel's state of the network is changed
nlmsg_readpriv   n -      the kernel answers from its own state
nlmsg_relay      w ipc    a message in the audit log
nlmsg_tty_audit  w ipc    what is audited of terminals
"""

AUDIT = """
nlmsg_write      w kernel decides what is audited
"""

PROCESS = """
transition       w code   starts it: chooses arguments, environment and open files; judged as an entry
dyntransition    w code   becomes it while running its own code; never allowed from low to high
noatsecure       w code   starts it without the clean-up of the environment; no entry may have it
ptrace           b code   reads and writes its memory
share            b code   shares memory or open files with it
setcurrent       n -      of oneself; becoming another is dyntransition
setexec          n -      of oneself; the start is a transition
setfscreate      n -      of oneself; the making is checked
setkeycreate     n -      of oneself; the making is checked
setsockcreate    n -      of oneself; the making is checked
sigchld          w ipc    tells the parent an exit status
signal           w ipc    runs its handler
sigkill          w ipc    ends it at a moment of choice
sigstop          w ipc    stops it at a moment of choice
signull          n -      asks whether it is there
siginh           n -      part of a start, judged as an entry
rlimitinh        n -      part of a start, judged as an entry
setsched         w ipc    when it runs
setpgid          w ipc    who else gets its signals
setrlimit        w ipc    what it may use
setcap           n -      of oneself
fork             n -      the child is the same subject
getattr          n -      identity and accounting, kept by the kernel
getcap           n -      identity and accounting, kept by the kernel
getpgid          n -      identity and accounting, kept by the kernel
getrlimit        n -      identity and accounting, kept by the kernel
getsched         n -      identity and accounting, kept by the kernel
getsession       n -      identity and accounting, kept by the kernel
execmem          n -      makes its own mistakes worse; no flow by itself
execheap         n -      makes its own mistakes worse; no flow by itself
execstack        n -      makes its own mistakes worse; no flow by itself
"""

PROCESS2 = """
nnp_transition    n -     lifts a restriction; the start is a transition
nosuid_transition n -     lifts a restriction; the start is a transition
"""

SECURITY = """
load_policy      w kernel replaces the policy
setenforce       w kernel switches enforcing off
setbool          w kernel changes what the policy allows
setsecparam      w kernel changes how the policy is enforced
setcheckreqprot  w kernel changes how the policy is enforced
read_policy      n -      the policy itself
compute_av       n -      the policy answers
compute_create   n -      the policy answers
compute_member   n -      the policy answers
compute_relabel  n -      the policy answers
compute_user     n -      the policy answers
check_context    n -      the policy answers
validate_trans   n -      the policy answers
"""

SYSTEM = """
module_load      w kernel the file becomes part of the kernel; reading it is checked besides
firmware_load    w kernel the file goes into a device
kexec_image_load w kernel the file becomes the next kernel
kexec_initramfs_load w kernel the file becomes part of the next system
policy_load      w kernel the file becomes a policy of the kernel
x509_certificate_load w kernel the file becomes a key that the kernel trusts
module_request   w ipc    a module is loaded by a name of choice
syslog_mod       w ipc    empties the kernel's log
syslog_console   n -      what is shown on the console
syslog_read      n -      the kernel's own log
ipc_info         n -      accounting
halt             w ipc    ends everything
reboot           w ipc    ends everything
start            w ipc    asks init to act
stop             w ipc    asks init to act
reload           w ipc    asks init to act
enable           w ipc    asks init to act
disable          w ipc    asks init to act
status           n -      init answers
"""

CAPABILITY = """
sys_module       w kernel loads code into the kernel
sys_rawio        w kernel memory and ports of the machine
sys_boot         w kernel restarts, or starts another kernel (kexec)
"""

CAPABILITY2 = """
mac_admin        w kernel sets labels that the policy does not know
mac_override     w kernel overrides mandatory access control
bpf              w kernel programs in the kernel
perfmon          w kernel programs in the kernel that read all of its memory
"""

CAPABILITY_REST = (
    "audit_control audit_write chown dac_override dac_read_search fowner fsetid ipc_lock ipc_owner kill lease "
    "linux_immutable mknod net_admin net_bind_service net_broadcast net_raw setfcap setgid setpcap setuid sys_admin "
    "sys_chroot sys_nice sys_pacct sys_ptrace sys_resource sys_time sys_tty_config"
)
CAPABILITY2_REST = "audit_read block_suspend checkpoint_restore syslog wake_alarm"

IPC = """
read             r ipc    what another put there
write            w ipc    for another to read
unix_read        r ipc    what another put there
unix_write       w ipc    for another to read
enqueue          w ipc    for another to read
create           w ipc    an object of this type is made
setattr          w ipc    who may use it is changed
destroy          w ipc    ends it at a moment of choice
associate        n -      finding it
getattr          n -      accounting
lock             n -      keeps it in memory
"""

FILESYSTEM = """
mount            w name   what stands below a path is replaced
remount          w name   what stands below a path is changed
unmount          w name   what stands below a path is taken away
relabelto        w data   content of another origin gets this type
relabelfrom      n -      judged together with relabelto
quotamod         w data   limits are changed
quotaget         n -      accounting
getattr          n -      accounting
associate        n -      says where a type may stand
watch            n -      that something happened, no content
"""

OTHER = {
    "fd": "use n - the object behind the descriptor is checked by its own type",
    "memprotect": "mmap_zero n - makes mistakes of the kernel worse; no flow by itself",
    "user_namespace": "create n - what is done in it is checked",
    "lockdown": "integrity w kernel changes the running kernel\nconfidentiality n - reads the running kernel",
    "kernel_service": "use_as_override w kernel the kernel acts for it under another label\n"
    "create_files_as w data files get the label of choice",
    "bpf": "map_create n - what goes through it is checked\nmap_read r ipc what a program in the kernel put there\n"
    "map_write w ipc for a program in the kernel\nprog_load w kernel a program runs in the kernel\n"
    "prog_run w ipc a program in the kernel is run",
    "perf_event": "open n - reading is checked besides\ncpu n - more counters\nkernel n - more counters\n"
    "tracepoint n - more counters\nread r ipc counters\nwrite w ipc counters",
    "io_uring": "override_creds w code requests run with the rights of another\nsqpoll n - a kernel thread helps\n"
    "cmd b data commands of a driver go both ways\nallowed n - its requests are checked one by one",
    "key": "read r data content of the key\nwrite w data content of the key\nlink w data what a key ring holds\n"
    "create w data a key of this type is made\nsetattr w data who may use it is changed\nsearch n - finding it\n"
    "view n - description",
    "msg": "send w ipc for another to read\nreceive r ipc what another sent",
    "association": "sendto w net over a labelled association\nrecvfrom r net over a labelled association\n"
    "setcontext w net labels a rule of the network\npolmatch n - chooses a rule of the network",
    "peer": "recv r net what the other machine sent",
    "packet": "recv r net what the other machine sent\nsend w net for the other machine\n"
    "relabelto w net labels packets\n"
    "forward_in n - passes by\nforward_out n - passes by",
    "netif": "ingress r net what the other machine sent\negress w net for the other machine",
    "node": "recvfrom r net what the other machine sent\nsendto w net for the other machine",
    "infiniband_pkey": "access n - a partition, no content",
    "infiniband_endport": "manage_subnet w net changes the network",
    "binder": "call w ipc asks a running program\ntransfer w ipc hands something to a running program\n"
    "impersonate w ipc speaks for another\nset_context_mgr w ipc becomes who is asked first",
    "service": "start w ipc asks init to act\nstop w ipc asks init to act\nreload w ipc asks init to act\n"
    "enable w ipc asks init to act\ndisable w ipc asks init to act\nstatus n - init answers",
    "dbus": "send_msg w ipc asks a running program\nacquire_svc w ipc becomes who is asked by that name",
    "passwd": "passwd w data changes an account\nchfn w data changes an account\nchsh w data changes an account\n"
    "crontab w data changes what is run\nrootok w data acts without asking",
    "nscd": "getpwd r ipc answers\ngetgrp r ipc answers\ngethost r ipc answers\ngetserv r ipc answers\n"
    "getstat n - accounting\nshmempwd r ipc answers\nshmemgrp r ipc answers\nshmemhost r ipc answers\n"
    "shmemserv r ipc answers\nadmin w ipc empties the cache",
    "context": "contains n - an order of labels\nunused_perm n - has no meaning\ntranslate n - how labels are shown",
}

_FAMILIES = """
tcp udp rawip packet sctp dccp icmp vsock tun smc xdp rds tipc bluetooth can caif ieee802154 nfc phonet pppox qipcrtr
rose rxrpc x25 ax25 netrom atmpvc atmsvc appletalk llc ipx irda isdn iucv decnet mctp kcm
"""
NETWORK = frozenset(f"{name}_socket" for name in _FAMILIES.split()) | {"socket"}
"""Classes of sockets that somebody outside the machine may write to."""

LOCAL = frozenset({"unix_stream_socket", "unix_dgram_socket", "alg_socket", "key_socket"})

_NETLINK_FAMILIES = """
audit connector crypto dnrt fib_lookup firewall generic ip6fw iscsi kobject_uevent netfilter nflog rdma route
scsitransport selinux tcpdiag xfrm
"""
NETLINK_CLASSES = frozenset(f"netlink_{name}_socket" for name in _NETLINK_FAMILIES.split()) | {
    "netlink_socket",
    "obsolete_netlink_firewall_socket",
    "obsolete_netlink_ip6fw_socket",
}
