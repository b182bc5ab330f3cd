#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build a verity-protected Xen host image from a Debian tree."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_host_image
short_description: Build a host image from a Debian tree
version_added: "0.1.0"
description:
  - Makes C(root.img) (a read-only erofs file system and its dm-verity hash tree), C(xen.efi) (hypervisor, command
    lines with the root hash, dom0 kernel and initrd in one file) and the manifest of all files.
  - The VM verifier's program is taken from this suite's own C(module_utils), so what is tested is what is built in.
  - Images are cached by everything they are made of; the same inputs give the same bytes.
  - All tools but C(tar) and C(chroot) come from the tree, so the builder's distribution does not matter.
options:
  tree:
    description: Tar file of a Debian tree, as M(vouch_debian_tree) makes it.
    type: path
    required: true
  tree_sha256:
    description: SHA-256 of O(tree). Computed when empty.
    type: str
    default: ""
  variant:
    description: V(debug) lets root in and is another image with another PCR 4.
    type: str
    choices: [production, debug]
    default: production
  packages:
    description: Package name to a list of patterns of its paths that go into the image.
    type: dict
    required: true
  libraries:
    description: File names of libraries that programs load by name at run time.
    type: list
    elements: str
    default: []
  modules:
    description: Kernel modules of the root file system, names or patterns of paths.
    type: list
    elements: str
    required: true
  initrd_script:
    description: Content of the initrd's C(/init).
    type: str
    required: true
  initrd_modules:
    description: Drivers in the initrd, loaded when their hardware is there.
    type: list
    elements: str
    required: true
  initrd_load:
    description: Modules that the initrd always loads.
    type: list
    elements: str
    required: true
  files:
    description: Files of our own in the image. They win over those of packages.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path.
        type: str
        required: true
      content:
        description: Text; the target when O(files[].mode=link).
        type: str
        required: true
      mode:
        description: Octal permissions, or V(link) for a symbolic link.
        type: str
        default: "0644"
  xen_options:
    description: Words of the hypervisor's command line.
    type: list
    elements: str
    required: true
  kernel_options:
    description: Words of dom0's command line; C(vouch.verity) is added.
    type: list
    elements: str
    required: true
  erofs_options:
    description: Arguments of C(mkfs.erofs).
    type: list
    elements: str
    default: []
  ssh_user:
    description: Account that the subsystem is offered to.
    type: str
    default: vouch
  source_date_epoch:
    description: Time of every file, in seconds since 1970.
    type: int
    default: 0
  cache_dir:
    description:
      - Directory of the cache. When empty, V(vouch/images) under E(XDG_CACHE_HOME), or under V(~/.cache).
    type: path
    default: ""
  output_dir:
    description: Directory that gets C(xen.efi), C(root.img), C(manifest) and C(image.json). Nothing when empty.
    type: path
    default: ""
  store_dir:
    description: Image store that gets the three files under C(sha256/). Nothing when empty.
    type: path
    default: ""
  state:
    description: V(rebuilt) builds although the image is in the cache.
    type: str
    choices: [present, rebuilt]
    default: present
requirements:
  - root on the builder
attributes:
  check_mode:
    description: Says whether an image would be built or files replaced, and changes nothing.
    support: full
  diff_mode:
    description: Not supported.
    support: none
notes:
  - Lines about the progress are appended to the file named by the environment variable E(VOUCH_PROGRESS).
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Build an image from a tree
  vouch_host_image:
    tree: "{{ tree.path }}"
    packages: {busybox-static: [/usr/bin/busybox], systemd: [/usr/lib/systemd/systemd]}
    modules: [virtio_net]
    initrd_script: "{{ lookup('ansible.builtin.file', 'init', rstrip=false) }}"
    initrd_modules: [virtio_blk]
    initrd_load: [dm_verity, erofs]
    files:
      - {path: /etc/ssh/authorized_keys/vouch, content: "{{ lookup('ansible.builtin.file', 'id_ed25519.pub') }}\n"}
    xen_options: [console=com1]
    kernel_options: [console=hvc0]
    output_dir: /srv/images/host
  register: built
"""

RETURN = r"""
key:
  description: SHA-256 over all inputs; the name of the image in the cache.
  returned: always
  type: str
  sample: 5d0c2f6e0d4c7a8fb2a2d5bd5b6dbd3c7cf4f7ad8f3a5b1c1b6a1ff04a6d5f0e
path:
  description: Folder of the image in the cache.
  returned: always
  type: str
  sample: /root/.cache/vouch/images/5d0c2f6e0d4c7a8fb2a2d5bd5b6dbd3c7cf4f7ad8f3a5b1c1b6a1ff04a6d5f0e
image:
  description: Description of the image, the input of M(vouch_host_release); empty when it was not built (check mode).
  returned: always
  type: dict
  sample: {"pcr4": "9bd6f00b", "variant": "production"}
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vouch.daemon import __main__ as daemon_main  # only so that it travels to the builder
from ansible.module_utils.vouch.daemon import dom0 as daemon_dom0
from ansible.module_utils.vouch.daemon import keeping as daemon_keeping
from ansible.module_utils.vouch.daemon import relay as daemon_relay
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.imaging.cache import DESCRIPTION, file_sha256
from ansible.module_utils.vouch.imaging.delivery import deliver
from ansible.module_utils.vouch.imaging.hostimage import FILES, ImageCache
from ansible.module_utils.vouch.imaging.sources import builder_code, source
from ansible.module_utils.vouch.imaging.spec import ImageFile, ImageSpec
from ansible.module_utils.vouch.make.pyclosure import import_closure

SHIPPED = (daemon_main, daemon_dom0, daemon_keeping, daemon_relay)


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    strings: dict[str, Any] = {"type": "list", "elements": "str"}
    return {
        "tree": {"type": "path", "required": True},
        "tree_sha256": {"type": "str", "default": ""},
        "variant": {"type": "str", "choices": ["production", "debug"], "default": "production"},
        "packages": {"type": "dict", "required": True},
        "libraries": {**strings, "default": []},
        "modules": {**strings, "required": True},
        "initrd_script": {"type": "str", "required": True},
        "initrd_modules": {**strings, "required": True},
        "initrd_load": {**strings, "required": True},
        "files": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "path": {"type": "str", "required": True},
                "content": {"type": "str", "required": True},
                "mode": {"type": "str", "default": "0644"},
            },
        },
        "xen_options": {**strings, "required": True},
        "kernel_options": {**strings, "required": True},
        "erofs_options": {**strings, "default": []},
        "ssh_user": {"type": "str", "default": "vouch"},
        "source_date_epoch": {"type": "int", "default": 0},
        "cache_dir": {"type": "path", "default": ""},
        "output_dir": {"type": "path", "default": ""},
        "store_dir": {"type": "path", "default": ""},
        "state": {"type": "str", "choices": ["present", "rebuilt"], "default": "present"},
    }


def default_cache() -> Path:
    """Return the cache directory of this user (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "vouch" / "images"


def specification(params: dict[str, Any]) -> ImageSpec:
    """Return what the options ask for."""
    return ImageSpec(
        variant=params["variant"],
        packages={name: tuple(patterns) for name, patterns in params["packages"].items()},
        libraries=tuple(params["libraries"]),
        modules=tuple(params["modules"]),
        initrd_script=params["initrd_script"],
        initrd_modules=tuple(params["initrd_modules"]),
        initrd_load=tuple(params["initrd_load"]),
        files=tuple(ImageFile.of(**entry) for entry in params["files"]),
        xen_options=tuple(params["xen_options"]),
        kernel_options=tuple(params["kernel_options"]),
        erofs_options=tuple(params["erofs_options"]),
        ssh_user=params["ssh_user"],
        source_date_epoch=params["source_date_epoch"],
    )


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Bring cache and output to the wanted state and return the module's result."""
    spec = specification(params)
    tree = Path(params["tree"])
    python = import_closure(spec.python_roots, source=source, package="vouch")
    key = spec.key(
        tree_sha256=params["tree_sha256"] or file_sha256(tree),
        code={**{f"dom0/{name}": text for name, text in python.items()}, **builder_code()},
    )
    folder = Path(params["cache_dir"]) if params["cache_dir"] else default_cache()
    cache = ImageCache(folder)
    rebuild = params["state"] == "rebuilt"
    result: dict[str, Any] = {"changed": False, "key": key, "path": str(folder / key), "image": {}}
    if check_mode and (rebuild or cache.find(key) is None):
        return {**result, "changed": True}
    image, built = cache.build(spec, tree=tree, key=key, python=python, rebuild=rebuild)
    stored = {name: f"sha256/{image.image.files[name]}" for name in FILES}
    delivered = deliver(
        image.folder,
        [
            (params["output_dir"], {name: name for name in (*FILES, DESCRIPTION)}),
            (params["store_dir"], stored),
        ],
        check_mode=check_mode,
    )
    return {**result, "changed": built or delivered, "image": image.image.to_json()}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = apply(module.params, check_mode=module.check_mode)
    except VouchError as error:
        module.fail_json(msg=str(error), code=error.code)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}", code="image.files")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
