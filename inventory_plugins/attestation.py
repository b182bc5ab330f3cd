# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory plugin: groups that say what each machine's proof is worth now."""

from __future__ import annotations

DOCUMENTATION = r"""
name: attestation
short_description: Groups by what the proof of each machine is worth now
version_added: "0.2.0"
author:
  - The Vouch developers
description:
  - Reads the result store and puts each attested machine of the inventory into exactly one of the groups
    C(attestation_affirming), C(attestation_warning), C(attestation_contraindicated), C(attestation_expired) and
    C(attestation_none).
  - Adds no hosts. It judges those that other sources, which must stand before this one, have named, so that no measured
    host can make up a target for plays.
  - What is read is verified against the keys of the appraisers. A store that is broken, unreachable or altered is an
    error, never an empty group; set C(any_unparsed_is_failed) in C(ansible.cfg), so that an error stops the run.
  - Insists on C(inject_facts_as_vars=False) in C(ansible.cfg). With injection, which is Ansible's default, any module
    result of a host may overlay even C(group_names) and C(inventory_hostname) with facts of the host's choice.
  - C(meta=refresh_inventory) evaluates it anew, also within one run.
options:
  plugin:
    description: Must be V(attestation).
    type: str
    required: true
    choices: [attestation]
  store:
    description:
      - URL of the result store, V(sqlite:////absolute/path) or V(postgresql://user@host/name). A password belongs into
        PostgreSQL's password file.
      - A relative path of SQLite is relative to the file of this source.
      - May be a Jinja template of the environment lookup.
    type: str
    required: true
    env:
      - name: VOUCH_STORE
  appraiser_keys:
    description:
      - Public keys (PEM files) of the appraisers that are believed. Relative to the file of this source.
    type: list
    elements: str
    required: true
  hosts:
    description:
      - Groups whose hosts are attested. Each of their hosts gets a group, also when it was never appraised.
    type: list
    elements: str
    default: [measured_hosts, guests]
  guest_on:
    description:
      - Name of the variable that says on which measured host a guest runs. A host without it is a measured host.
    type: str
    default: guest_on
  guest_id:
    description: Name of the variable with the id of a guest on its host, when it is not the inventory's name.
    type: str
    default: guest_name
  host_id:
    description:
      - Name of the variable with the id of a measured host. Where it is set, a result of another machine under this
        host's name counts for nothing.
    type: str
    default: measured_host_id
  absent:
    description:
      - What it means when there is no store yet. V(none) puts every host into C(attestation_none), for a controller
        that has not appraised anything yet.
    type: str
    choices: [error, none]
    default: error
extends_documentation_fragment:
  - constructed
notes:
  - The variable C(attestation) of each host shows what the group rests on. It is for templates and messages. A play
    that must not reach an unproven machine says C(hosts=attestation_affirming).
"""

EXAMPLES = r"""
# inventories/production/verdicts.attestation.yml; the name puts it behind hosts.yml
plugin: attestation
store: sqlite:////var/lib/vouch/store.db
appraiser_keys:
  - /etc/vouch/appraiser.pub

# more groups, of what is shown
keyed_groups:
  - key: attestation.stage
    prefix: attestation_stage
compose:
  proof_left_s: attestation.expires_in_s
"""

import pathlib
import time
from typing import Any

import ansible.module_utils as _module_utils
from ansible import constants
from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable

_CORE = str(pathlib.Path(__file__).resolve().parents[1] / "module_utils")
if _CORE not in _module_utils.__path__:
    _module_utils.__path__.append(_CORE)

from ansible.module_utils.vouch.errors import UnreachableError, VouchError
from ansible.module_utils.vouch.fleet.groups import GROUPS, place, subject_of
from ansible.module_utils.vouch.fleet.register import Register, read_register
from ansible.module_utils.vouch.port.publickeys import read_public_keys
from ansible.module_utils.vouch.store.results import ResultStore
from ansible.module_utils.vouch.store.schema import open_store

SUFFIXES = ("attestation.yml", "attestation.yaml")
SQLITE = "sqlite:///"


class InventoryModule(BaseInventoryPlugin, Constructable):  # type: ignore[misc]
    """See DOCUMENTATION."""

    NAME = "attestation"

    def verify_file(self, path: str) -> bool:
        """Say whether ``path`` is a source of this plugin."""
        return bool(super().verify_file(path)) and path.endswith(SUFFIXES)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Put the hosts of ``inventory`` into their groups."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        if constants.INJECT_FACTS_AS_VARS:
            raise AnsibleParserError(
                "attestation: inject_facts_as_vars is on, so what a host says of itself would stand in front of "
                "inventory_hostname, group_names and hostvars. Set inject_facts_as_vars = False in ansible.cfg"
            )
        try:
            self._place(pathlib.Path(path).resolve().parent)
        except VouchError as error:
            raise AnsibleParserError(f"attestation: {error}") from error

    def _place(self, folder: pathlib.Path) -> None:
        for group in GROUPS:
            self.inventory.add_group(group)
        register = self._register(folder)
        names = {name: self.get_option(name) for name in ("guest_on", "guest_id", "host_id")}
        hosts = {
            host.name: host
            for group in self.get_option("hosts")
            if group in self.inventory.groups
            for host in self.inventory.groups[group].get_hosts()
        }
        subjects = (
            subject_of(
                name,
                self._variables(host),
                on=names["guest_on"],
                guest=names["guest_id"],
                host_id=names["host_id"],
            )
            for name, host in hosts.items()
        )
        strict = self.get_option("strict")
        constructed = any(self.get_option(name) for name in ("compose", "groups", "keyed_groups"))
        for placed in place(subjects, register, now_s=int(time.time())):
            self.inventory.add_child(placed.group, placed.name)
            # On the host itself: the inventory would note an origin at each text of it, which takes as long as all the
            # rest. Nothing here is a template: texts of plugins are only trusted as such when somebody says so.
            hosts[placed.name].set_variable("attestation", placed.facts)
            if constructed:
                variables = {**self._variables(hosts[placed.name]), "attestation": placed.facts}
                self._set_composite_vars(self.get_option("compose"), variables, placed.name, strict=strict)
                self._add_host_to_composed_groups(self.get_option("groups"), variables, placed.name, strict=strict)
                self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, placed.name, strict=strict)

    @staticmethod
    def _variables(host: Any) -> dict[str, Any]:
        """Return what the sources before this one said of a host, nearest group last."""
        found: dict[str, Any] = {}
        for group in sorted(host.get_groups(), key=lambda item: (item.depth, item.priority, item.name)):
            found |= group.vars
        return found | host.vars

    def _register(self, folder: pathlib.Path) -> Register:
        try:
            database = open_store(_absolute(self._text(self.get_option("store")), folder))
        except UnreachableError as error:
            if error.code == "store.missing" and self.get_option("absent") == "none":
                return Register(())
            raise
        try:
            keys = read_public_keys(folder / self._text(name) for name in self.get_option("appraiser_keys"))
            return read_register(ResultStore(database), keys)
        finally:
            database.close()

    def _text(self, value: str) -> str:
        return str(self.templar.template(value))


def _absolute(url: str, folder: pathlib.Path) -> str:
    """Return ``url`` with a relative SQLite path made absolute: Ansible's current folder is not the source's."""
    if url.startswith(SQLITE) and not url.startswith(f"{SQLITE}/"):
        return f"{SQLITE}{folder / url[len(SQLITE) :]}"
    return url
