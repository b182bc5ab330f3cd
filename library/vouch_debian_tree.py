#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bootstrap a Debian tree into a cache of tar files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_debian_tree
short_description: Bootstrap a Debian tree into a cache
version_added: "0.1.0"
description:
  - Makes a tar file of a minimal Debian root file system with C(mmdebstrap), once per set of inputs.
  - The file is named by the SHA-256 of the inputs. A file whose bytes do not match their recorded digest is made again.
  - Several runs may share the cache; one waits while the other builds the same tree.
options:
  suite:
    description: Debian suite.
    type: str
    required: true
  variant:
    description: Which packages are installed besides O(packages); see C(mmdebstrap(1\)).
    type: str
    choices: [extract, custom, essential, apt, minbase, buildd, important, standard]
    default: minbase
  packages:
    description: Packages to install, as V(name), V(name=version) or V(name/suite). Their order does not matter.
    type: list
    elements: str
    default: []
  sources:
    description:
      - Source packages whose upstream archive is unpacked at V(/usr/src/NAME) of the tree, without Debian's patches.
      - The tree's own C(apt) fetches them. An archive in another form than C(gz) needs its program in O(packages).
    type: list
    elements: str
    default: []
  components:
    description: Archive components.
    type: list
    elements: str
    default: [main]
  mirror:
    description: URL of the Debian archive. When empty, C(mmdebstrap) chooses.
    type: str
    default: ""
  path_excludes:
    description: Patterns of paths that C(dpkg) does not unpack.
    type: list
    elements: str
    default: []
  path_includes:
    description: Patterns of paths that C(dpkg) unpacks in spite of O(path_excludes).
    type: list
    elements: str
    default: []
  source_date_epoch:
    description: Newest time a file of the tree may have, in seconds since 1970.
    type: int
    default: 0
  cache_dir:
    description:
      - Directory of the cache. Made when missing, readable by its owner only.
      - When empty, V(vouch/trees) under E(XDG_CACHE_HOME), or under V(~/.cache) without that variable.
    type: path
    default: ""
  state:
    description: V(present) makes the tree when it is missing, V(rebuilt) makes it anew, V(absent) removes it.
    type: str
    choices: [present, rebuilt, absent]
    default: present
requirements:
  - mmdebstrap
  - debian-archive-keyring
attributes:
  check_mode:
    description: Says whether a tree would be made or removed, and changes nothing.
    support: full
  diff_mode:
    description: Shows the digest of the tree before and after.
    support: full
notes:
  - Lines about the progress are appended to the file named by the environment variable E(VOUCH_PROGRESS).
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Bootstrap the root of the installer
  vouch_debian_tree:
    suite: trixie
    packages:
      - openssh-server
      - python3
    source_date_epoch: 1750000000
  register: installer_tree

- name: Show where it is
  ansible.builtin.debug:
    msg: "{{ installer_tree.path }} holds {{ installer_tree.packages | length }} packages"
"""

RETURN = r"""
path:
  description: The tar file.
  returned: always
  type: str
  sample: /root/.cache/vouch/trees/5d0c2f6e0d4c7a8fb2a2d5bd5b6dbd3c7cf4f7ad8f3a5b1c1b6a1ff04a6d5f0e.tar
key:
  description: SHA-256 over the inputs, the name of the tree in the cache.
  returned: always
  type: str
  sample: 5d0c2f6e0d4c7a8fb2a2d5bd5b6dbd3c7cf4f7ad8f3a5b1c1b6a1ff04a6d5f0e
sha256:
  description: SHA-256 of the tar file; empty when it is not there.
  returned: always
  type: str
  sample: 1f9a4f3c6cf8d0c35ad2c5b3f9b4a38e4f0a8a8c4dbe1b0e5f9fdd8fd0b3a1c2
size_bytes:
  description: Length of the tar file.
  returned: always
  type: int
  sample: 236984320
packages:
  description: The installed packages, sorted by name.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the package.
      type: str
    version:
      description: Its version.
      type: str
    architecture:
      description: Its architecture.
      type: str
  sample: [{"name": "openssh-server", "version": "1:10.0p1-7", "architecture": "amd64"}]
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.make.tree import VARIANTS, TreeSpec
from ansible.module_utils.vouch.store.trees import CachedTree, TreeCache


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        "suite": {"type": "str", "required": True},
        "variant": {"type": "str", "choices": list(VARIANTS), "default": "minbase"},
        "packages": {"type": "list", "elements": "str", "default": []},
        "sources": {"type": "list", "elements": "str", "default": []},
        "components": {"type": "list", "elements": "str", "default": ["main"]},
        "mirror": {"type": "str", "default": ""},
        "path_excludes": {"type": "list", "elements": "str", "default": []},
        "path_includes": {"type": "list", "elements": "str", "default": []},
        "source_date_epoch": {"type": "int", "default": 0},
        "cache_dir": {"type": "path", "default": ""},
        "state": {"type": "str", "choices": ["present", "rebuilt", "absent"], "default": "present"},
    }


def default_cache() -> Path:
    """Return the cache directory of this user (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "vouch" / "trees"


def described(tree: CachedTree | None) -> dict[str, Any]:
    """Return what the module says about ``tree``."""
    if tree is None:
        return {"sha256": "", "size_bytes": 0, "packages": []}
    return {
        "sha256": tree.sha256,
        "size_bytes": tree.size_bytes,
        "packages": [asdict(package) for package in tree.packages],
    }


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Bring the cache to the wanted state and return the module's result."""
    spec = TreeSpec(
        suite=params["suite"],
        variant=params["variant"],
        packages=tuple(params["packages"]),
        sources=tuple(params["sources"]),
        components=tuple(params["components"]),
        mirror=params["mirror"],
        path_excludes=tuple(params["path_excludes"]),
        path_includes=tuple(params["path_includes"]),
        source_date_epoch=params["source_date_epoch"],
    )
    cache = TreeCache(Path(params["cache_dir"]) if params["cache_dir"] else default_cache())
    before = cache.find(spec)
    state = params["state"]
    after: CachedTree | None
    if state == "absent":
        changed = before is not None if check_mode else cache.remove(spec)
        after = None
    elif check_mode:
        changed = before is None or state == "rebuilt"
        after = before
    elif before is not None and state == "present":
        after, changed = before, False
    else:
        after, changed = cache.ensure(spec, rebuild=state == "rebuilt")
    result = {"changed": changed, "key": spec.key, "path": str(cache.path(spec)), **described(after)}
    shown_after = "(made by this task)" if check_mode and changed and state != "absent" else described(after)["sha256"]
    result["diff"] = {"before": f"{described(before)['sha256']}\n", "after": f"{shown_after}\n"}
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = apply(module.params, check_mode=module.check_mode)
    except VouchError as exc:
        module.fail_json(msg=str(exc), code=exc.code)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
