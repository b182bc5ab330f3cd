# SPDX-License-Identifier: GPL-3.0-or-later
"""Stories and reports as plain data: no policy is needed to print, draw or export them."""

from __future__ import annotations

import dataclasses

from ansible.module_utils.vouch.explain.report import Group, PolicyFacts, Report, SoleWriter
from ansible.module_utils.vouch.explain.story import Step, Story

HOSTILE = "<script>alert(1)</script>&\"'\x00\x1b[31m"
"""A name that no policy compiler accepts and any policy file can hold."""

READ = Story(
    kind="C1",
    severity="code",
    high="init_t",
    object="user_tmp_t",
    class_name="file",
    writers=("staff_t", "user_t"),
    writer_count=17,
    write=Step(
        subject="staff_t",
        permissions=("append", "write"),
        rule="allow staff_t user_tmp_t:file { append write };",
        rule_number=812,
        rules=3,
        condition="allow_x && !y",
    ),
    read=Step(
        subject="init_t", permissions=("execute",), rule="allow init_t file_type:file { execute };", rule_number=12
    ),
    cures=("Split user_tmp_t.",),
)
DIRECT = Story(
    kind="C2",
    severity="ipc",
    high="init_t",
    object="init_t",
    class_name="process",
    writers=("user_t",),
    writer_count=1,
    write=Step(subject="user_t", permissions=("sigkill",), rule="allow user_t init_t:process sigkill;", rule_number=3),
    read=None,
)
ANYBODY = Story(
    kind="C1",
    severity="net",
    high="sshd_t",
    object="sshd_t",
    class_name="tcp_socket",
    writers=(),
    writer_count=0,
    write=None,
    read=Step(subject="sshd_t", permissions=("read",), rule="allow sshd_t self:tcp_socket read;", rule_number=4),
)
STORIES = (READ, DIRECT, ANYBODY)


def hostile() -> Story:
    """Return a story whose every name is hostile."""
    return Story(
        kind="C1",
        severity="code",
        high=HOSTILE,
        object=HOSTILE,
        class_name=HOSTILE,
        writers=(HOSTILE,) * 9,
        writer_count=9,
        write=Step(subject=HOSTILE, permissions=(HOSTILE,), rule=HOSTILE, rule_number=1, condition=HOSTILE),
        read=Step(subject=HOSTILE, permissions=(HOSTILE,), rule=HOSTILE * 99, rule_number=1),
        cures=(HOSTILE,),
    )


def failed(*stories: Story) -> Report:
    """Return a report that tells ``stories``, and knows of many more."""
    return Report(
        policy=PolicyFacts(
            path="policy.33",
            sha256="ab" * 32,
            types=3936,
            rules=104302,
            subjects=674,
            boolean_mode="all",
            intent_sha256="cd" * 32,
        ),
        passed=False,
        conflicts=500_000,
        by_severity={"code": 1200, "data": 498_000, "net": 800},
        by_kind={"C1": 499_000, "C2": 1000},
        faults=("type sulogin_t is permissive",),
        groups=(
            Group(object="user_tmp_t", class_name="file", severity="code", conflicts=900, readers=50, writers=17),
            Group(
                object="etc_t",
                class_name="file",
                severity="data",
                conflicts=56,
                readers=56,
                writers=1,
                sole_writer="user_t",
            ),
        ),
        group_count=14_330,
        stories=stories or STORIES,
        sole_writers=(SoleWriter(writer="user_t", objects=3, conflicts=168),),
        unused_filters=("filter sshd_t sshd_t:udp_socket",),
    )


def passed() -> Report:
    """Return the report of a policy without conflicts."""
    return dataclasses.replace(
        failed(),
        passed=True,
        conflicts=0,
        by_severity={},
        by_kind={},
        faults=(),
        groups=(),
        group_count=0,
        stories=(),
        sole_writers=(),
        unused_filters=(),
    )
