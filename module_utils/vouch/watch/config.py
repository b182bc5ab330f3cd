# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of a watch: one JSON file, read strictly. Role ``attestation_watch`` writes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ParseError, UsageError
from ..model.standing import MAX_SUBJECT_CHARS
from ..parse.canonical import load_json
from ..parse.fields import Fields

CONFIG_TYPE = "urn:vouch:watch:1"
MAX_CONFIG_BYTES = 32 << 20
MAX_HOSTS = 100_000
MAX_HOOKS = 16

WEBHOOK, COMMAND = "webhook", "command"
_URL = re.compile(r"https?://[^\s\x00-\x1f]{1,2000}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedHost:
    """One host to watch."""

    name: str
    host_id: str
    address: str
    port: int
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """What is called when a host's or guest's state changes.

    Attributes:
        kind: ``WEBHOOK`` or ``COMMAND``.
        url: Of a webhook: gets the event as JSON by POST.
        argv: Of a command: run without a shell, the event as JSON on its standard input.
        timeout_s: It is given up after that.
    """

    kind: str
    url: str
    argv: tuple[str, ...]
    timeout_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """Everything a watch process needs to know.

    Attributes:
        store: URL of the result store.
        enrolments: Folder or URL of the enrolments.
        bundles: Folder for evidence bundles; empty: none are kept.
        appraiser_key: Private key, PEM file, that signs and seals.
        private_key: SSH key that hosts let in.
        interval_s: Seconds from one question to the next.
        jitter_s: At most so many seconds less, by chance.
        workers: Hosts asked at the same time.
        capacity: Hosts this process takes at most.
        subscribe: Whether hosts are listened to between the questions.
        releases: Signed release files.
        image_store: Folder of the image store.
        packages: Signed guest packages.
        policy: Of the appraisal; keys are names of PEM files (``fleet.inputs``).
        hosts: The hosts, no id and no name twice.
        hooks: Called at changes.
        metrics_address, metrics_port: Where Prometheus reads; port 0: nowhere.
    """

    store: str
    enrolments: str
    bundles: str
    appraiser_key: str
    private_key: str
    interval_s: int
    jitter_s: int
    workers: int
    capacity: int
    subscribe: bool
    releases: tuple[str, ...]
    image_store: str
    packages: tuple[str, ...]
    policy: Mapping[str, Any]
    hosts: tuple[WatchedHost, ...]
    hooks: tuple[Hook, ...]
    metrics_address: str
    metrics_port: int

    @property
    def lease_s(self) -> int:
        """How long a claim lives: the hosts of a dead process are taken over within two intervals."""
        return max(2, 2 * self.interval_s - 1)


def read_config(data: bytes) -> WatchConfig:
    """Return the configuration of a JSON file.

    Raises:
        UsageError: ``watch.config``, naming the member that is wrong.
    """
    try:
        return _read(Fields(load_json(data, limit_bytes=MAX_CONFIG_BYTES), "watch"))
    except ParseError as error:
        raise UsageError(f"configuration: {error.message}", code="watch.config") from None


def _read(fields: Fields) -> WatchConfig:
    fields.literal("type", CONFIG_TYPE)
    metrics = fields.object("metrics") if fields.given("metrics") else None
    config = WatchConfig(
        store=fields.text("store"),
        enrolments=fields.text("enrolments"),
        bundles=fields.text("bundles", empty=True),
        appraiser_key=fields.text("appraiser_key"),
        private_key=fields.text("private_key"),
        interval_s=fields.integer("interval_s", minimum=1, maximum=86_400),
        jitter_s=fields.integer("jitter_s", maximum=86_400),
        workers=fields.integer("workers", minimum=1, maximum=1024),
        capacity=fields.integer("capacity", minimum=1, maximum=MAX_HOSTS),
        subscribe=_boolean(fields, "subscribe"),
        releases=_texts(fields, "releases", 256),
        image_store=fields.text("image_store"),
        packages=_texts(fields, "packages", 1024),
        policy=fields.object("policy").rest(),
        hosts=tuple(_host(item) for item in fields.array("hosts", maximum=MAX_HOSTS)),
        hooks=tuple(_hook(item) for item in fields.array("hooks", maximum=MAX_HOOKS)),
        metrics_address="" if metrics is None else metrics.text("address"),
        metrics_port=0 if metrics is None else metrics.integer("port", minimum=1, maximum=65535),
    )
    if metrics is not None:
        metrics.done()
    fields.done()
    if config.jitter_s >= config.interval_s:
        raise fields.fail("jitter_s", "is not below interval_s")
    for what in ("host_id", "name"):
        names = [getattr(host, what) for host in config.hosts]
        twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
        if twice:
            raise fields.fail("hosts", f"{what} {min(twice)} stands twice")
    return config


def _host(value: Any) -> WatchedHost:
    fields = Fields(value, "watch.hosts")
    host = WatchedHost(
        name=fields.text("name", maximum_chars=MAX_SUBJECT_CHARS),
        host_id=fields.uuid("host_id"),
        address=fields.text("address", maximum_chars=253),
        port=fields.integer("port", minimum=1, maximum=65535),
        user=fields.text("user", maximum_chars=64),
    )
    fields.done()
    return host


def _hook(value: Any) -> Hook:
    fields = Fields(value, "watch.hooks")
    kind = fields.choice("kind", WEBHOOK, COMMAND)
    hook = Hook(
        kind=kind,
        url=fields.text("url", pattern=_URL) if kind == WEBHOOK else "",
        argv=_texts(fields, "argv", 64) if kind == COMMAND else (),
        timeout_s=fields.integer("timeout_s", minimum=1, maximum=600),
    )
    fields.done()
    if kind == COMMAND and not (hook.argv and hook.argv[0].startswith("/")):
        raise fields.fail("argv", "does not begin with an absolute path")
    return hook


def _texts(fields: Fields, name: str, maximum: int) -> tuple[str, ...]:
    found = fields.array(name, maximum=maximum)
    if not all(isinstance(item, str) and item for item in found):
        raise fields.fail(name, "holds something that is no text", "parse.field.type")
    return tuple(found)


def _boolean(fields: Fields, name: str) -> bool:
    found = fields.take(name)
    if not isinstance(found, bool):
        raise fields.fail(name, "is no boolean", "parse.field.type")
    return found
