# SPDX-License-Identifier: GPL-3.0-or-later
"""What the measurer has to know of a kernel: the profile holds these symbols, members and constants, and no others.

A name in a tuple is one that every kernel of Linux 6.1 and 6.12 has; one that only some have stands in ``OPTIONAL``.
Members of members are joined by dots.

Source: docs/introspection.md; symbols and structs of Linux 6.1 and 6.12.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SYMBOLS: tuple[str, ...] = (
    *("_stext", "_etext", "__start_rodata", "__end_rodata", "linux_banner", "init_top_pgt", "system_state"),
    *("selinux_state", "selinux_avc", "selinux_blob_sizes", "selinux_hooks", "secclass_map"),
    *("init_task", "idt_table", "entry_SYSCALL_64"),
    *("modules", "modules_disabled", "kexec_load_disabled"),
    *("modprobe_path", "core_pattern", "poweroff_cmd"),
    *("ima_measurements", "ima_htable"),
    *("phys_base", "page_offset_base"),
)

OPTIONAL: tuple[str, ...] = (
    *("security_hook_heads", "static_calls_table", "lsm_active_cnt", "selinux_lsmid"),
    *("mod_tree", "module_kset", "kernel_locked_down", "uevent_helper", "usermodehelper_disabled"),
    *("asm_exc_xen_hypervisor_callback", "xen_asm_exc_xen_hypervisor_callback", "xen_failsafe_callback"),
    *("xen_entry_SYSCALL_64", "xen_syscall_target", "xen_sysenter_target", "xen_entry_SYSENTER_compat"),
    *("pack_list", "real_mode_header", "real_mode_blob", "real_mode_blob_end"),
    *("early_idt_handler_array", "ima_policy_flag"),
    *("__start___jump_table", "__stop___jump_table", "__start_static_call_sites", "__stop_static_call_sites"),
)

STRUCTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "list_head": ("next", "prev"),
        "selinux_state": ("enforcing", "initialized", "policycap", "policy"),
        "selinux_policy": (
            "sidtab",
            "latest_granting",
            "policydb.mls_enabled",
            "policydb.te_avtab.htable",
            "policydb.te_avtab.nel",
            "policydb.te_avtab.nslot",
            "policydb.te_cond_avtab.htable",
            "policydb.te_cond_avtab.nel",
            "policydb.te_cond_avtab.nslot",
            "policydb.bool_val_to_struct",
            "policydb.type_attr_map_array",
            "policydb.permissive_map",
            "policydb.policycaps",
            "policydb.allow_unknown",
            "policydb.reject_unknown",
            "policydb.symtab",
            "policydb.len",
            "policydb.policyvers",
            "policydb.role_allow",
            "map.mapping",
            "map.size",
        ),
        "selinux_mapping": ("value", "num_perms", "perms"),
        "security_class_mapping": ("name", "perms"),
        "symtab": ("nprim",),
        "avtab_node": ("key", "datum", "next"),
        "avtab_extended_perms": ("specified", "driver", "perms"),
        "ebitmap": ("node", "highbit"),
        "ebitmap_node": ("next", "maps", "startbit"),
        "cond_bool_datum": ("value", "state"),
        "sidtab": ("roots", "count", "isids"),
        "sidtab_isid_entry": ("set", "entry"),
        "sidtab_entry": ("sid", "context"),
        "context": ("user", "role", "type"),
        "selinux_avc": ("avc_cache.slots", "avc_cache.latest_notif"),
        "avc_node": ("ae", "list"),
        "avc_entry": ("ssid", "tsid", "tclass", "avd"),
        "av_decision": ("allowed", "seqno", "flags"),
        "lsm_blob_sizes": ("lbs_cred", "lbs_inode"),
        "task_security_struct": ("osid", "sid"),
        "inode_security_struct": ("sid", "initialized"),
        "task_struct": (
            "tasks",
            "thread_node",
            "signal",
            "pid",
            "tgid",
            "comm",
            "cred",
            "real_cred",
            "mm",
            "start_time",
            "flags",
        ),
        "signal_struct": ("thread_head",),
        "cred": ("uid", "gid", "euid", "egid", "fsuid", "cap_effective", "cap_permitted", "cap_bset", "security"),
        "mm_struct": ("exe_file", "pgd"),
        "file": ("f_inode",),
        "inode": ("i_security",),
        "module": ("list", "name", "state"),
        "ima_queue_entry": ("later", "entry"),
        "ima_template_entry": ("pcr", "template_desc", "template_data_len", "template_data"),
        "ima_template_desc": ("num_fields", "name"),
        "ima_field_data": ("data", "len"),
        "ima_h_table": ("len",),
    }
)

OPTIONAL_STRUCTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "selinux_state": ("checkreqprot",),
        "module": ("core_layout.base", "core_layout.text_size", "init_layout.base", "mem"),
        "module_memory": ("base", "size"),
        "security_hook_list": ("list", "head", "hook", "lsm", "scalls", "lsmid"),
        "lsm_static_call": ("key", "trampoline", "hl", "active"),
        "lsm_id": ("name",),
        "static_call_key": ("func",),
        "bpf_prog_pack": ("list", "ptr"),
        "static_key": ("enabled",),
        "static_key_false": ("key",),
    }
)

SIZES: tuple[str, ...] = (
    *("avtab_node", "ebitmap", "ebitmap_node", "symtab", "sidtab_entry", "sidtab_isid_entry", "ima_field_data"),
    *("task_struct", "module", "lsm_static_call", "security_hook_list", "module_memory", "static_key_false"),
    *("lsm_static_calls_table", "security_hook_heads", "avc_node"),
    *("selinux_mapping", "security_class_mapping"),
)
"""Structs whose own size is needed; one that a kernel lacks is left out."""

CONSTANTS: tuple[str, ...] = ("SYSTEM_RUNNING",)
