#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run the image store of the lab."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_lab_store
short_description: Run the image store of the lab
version_added: "0.1.0"
description:
  - Serves the files of one folder by HTTP on C(127.0.0.1). Machines of the lab reach it as C(http://10.0.2.2:PORT/).
  - It lists nothing and accepts nothing. Who fetches a file checks its digest.
options:
  directory:
    description: Directory of the lab. The server's own files are in the directory C(store) below it.
    type: path
    required: true
  folder:
    description: Folder that is served. Made when missing. Needed with O(state=started).
    type: path
  port:
    description: Port on C(127.0.0.1). Needed with O(state=started).
    type: int
  state:
    description:
      - V(started) serves O(folder) on O(port), after a restart when that differs from before.
      - V(stopped) ends the server.
      - V(absent) also removes its own files. O(folder) stays.
    type: str
    choices: [started, stopped, absent]
    default: started
attributes:
  check_mode:
    description: Says whether the server would be started or stopped.
    support: full
  diff_mode:
    description: Shows folder, port and state before and after.
    support: full
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Serve the images
  vouch_lab_store:
    directory: /var/lib/vouch-lab
    folder: /var/lib/vouch-store
    port: 8081
"""

RETURN = r"""
pid:
  description: Process of the server, 0 when it does not run.
  returned: always
  type: int
  sample: 4711
url:
  description: Where a machine of the lab finds the store.
  returned: when started
  type: str
  sample: http://10.0.2.2:8081
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.lab.storecontrol import StoreProcess, StoreSpec

GATEWAY = "10.0.2.2"
"""QEMU's user network shows the loopback address of its own machine under this one."""


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        "directory": {"type": "path", "required": True},
        "folder": {"type": "path"},
        "port": {"type": "int"},
        "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
    }


def shown(store: StoreProcess) -> dict[str, Any]:
    """Return one side of the diff."""
    spec = store.spec()
    if spec is None or store.pid() is None:
        return {"state": "stopped"}
    return {"state": "started", **asdict(spec)}


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Bring the server into the wanted state and return the module's result."""
    store = StoreProcess(Path(params["directory"]))
    before = shown(store)
    result: dict[str, Any] = {}
    after: dict[str, Any] = {"state": "stopped"}
    if params["state"] == "started":
        spec = StoreSpec(folder=params["folder"], port=params["port"])
        result["changed"] = store.needs_start(spec) if check_mode else store.start(spec)
        result["url"] = f"http://{GATEWAY}:{spec.port}"
        after = {"state": "started", **asdict(spec)}
    elif check_mode:
        result["changed"] = store.pid() is not None or (params["state"] == "absent" and store.spec() is not None)
    else:
        result["changed"] = store.stop() if params["state"] == "stopped" else store.remove()
    return {**result, "pid": store.pid() or 0, "diff": {"before": before, "after": after}}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[("state", "started", ("folder", "port"))],
        supports_check_mode=True,
    )
    try:
        result = apply(module.params, check_mode=module.check_mode)
    except VouchError as exc:
        module.fail_json(msg=str(exc), code=exc.code)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
