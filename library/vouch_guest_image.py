#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build a verity-protected guest image, its SELinux policy proven, from a Debian tree."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_guest_image
short_description: Build a guest image from a Debian tree
version_added: "0.1.0"
description:
  - Makes C(vmlinuz), C(initrd.img), C(root.img) (a read-only erofs file system with SELinux labels and its dm-verity
    hash tree), C(policy) (in the form in which the guest's kernel writes it back), C(proof.json), C(intent.json) and
    C(profile) (by which a host reads and judges the guest's memory).
  - Programs of the guest that are ours are taken from this suite's own C(module_utils), so what is tested is what is
    built in.
  - The policy is compiled from O(policy) and checked against O(intent). A guest whose policy does not keep to its
    intent is not built.
  - Images are cached by everything they are made of; the same inputs give the same bytes.
  - All tools but C(tar), C(chroot) and QEMU come from the tree. QEMU boots the guest's kernel once, to get its form of
    the policy; which QEMU it is does not matter.
options:
  tree:
    description: Tar file of a Debian tree, as M(vouch_debian_tree) makes it.
    type: path
    required: true
  tree_sha256:
    description: SHA-256 of O(tree). Computed when empty.
    type: str
    default: ""
  name:
    description: Name of the guest.
    type: str
    required: true
  variant:
    description: V(debug) has a shell on its console and is another image.
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
  users:
    description: Accounts of services, name to number. No account can log in.
    type: dict
    default: {}
  python_roots:
    description:
      - Our own modules, below C(vouch), that programs of the guest start with. They and what they import are at
        V(/usr/lib/vouch/python).
    type: list
    elements: str
    default: []
  sources:
    description: Source packages of O(tree) whose files are in the image too, at V(/usr/src/NAME).
    type: list
    elements: str
    default: []
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
    description: Modules that the initrd always loads. No others can be loaded later.
    type: list
    elements: str
    required: true
  kernel_options:
    description: Words of the command line; C(vouch.verity) and the closing C(--) are added.
    type: list
    elements: str
    required: true
  erofs_options:
    description: Arguments of C(mkfs.erofs).
    type: list
    elements: str
    default: []
  policy:
    description: The SELinux policy as CIL.
    type: str
    required: true
  file_contexts:
    description: Labels of files, as C(setfiles(8\)) reads them.
    type: str
    required: true
  intent:
    description: What the policy is checked for; C(docs/cwlite.md) tells its members.
    type: dict
    required: true
  source_date_epoch:
    description: Time of every file, in seconds since 1970.
    type: int
    default: 0
  cache_dir:
    description:
      - Directory of the cache. When empty, V(vouch/guests) under E(XDG_CACHE_HOME), or under V(~/.cache).
    type: path
    default: ""
  output_dir:
    description: Directory that gets the seven files and C(image.json). Nothing when empty.
    type: path
    default: ""
  store_dir:
    description: Image store that gets the seven files under C(sha256/). Nothing when empty.
    type: path
    default: ""
  state:
    description: V(rebuilt) builds although the image is in the cache.
    type: str
    choices: [present, rebuilt]
    default: present
requirements:
  - root on the builder
  - qemu-system-x86_64 on the builder
  - zstandard (Debian package python3-zstandard) in the builder's Python
attributes:
  check_mode:
    description: Says whether an image would be built or files replaced, and changes nothing.
    support: full
  diff_mode:
    description: Not supported.
    support: none
seealso:
  - module: vouch_guest_package
notes:
  - Lines about the progress are appended to the file named by the environment variable E(VOUCH_PROGRESS).
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Build a guest from a tree
  vouch_guest_image:
    tree: "{{ tree.path }}"
    name: base
    packages: {systemd: [/usr/lib/systemd/systemd]}
    files:
      - {path: /etc/selinux/config, content: "SELINUX=enforcing\nSELINUXTYPE=vouch\n"}
    initrd_script: "{{ lookup('ansible.builtin.file', 'init', rstrip=false) }}"
    initrd_modules: [xen_blkfront]
    initrd_load: [dm_verity, erofs]
    kernel_options: [console=hvc0, security=selinux, selinux=1, enforcing=1]
    policy: "{{ lookup('ansible.builtin.template', 'policy/vouch.cil.j2') }}"
    file_contexts: "{{ lookup('ansible.builtin.template', 'policy/file_contexts.j2') }}"
    intent: {version: 1, tcb: [kernel_t, init_t]}
    output_dir: /srv/images/base
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
  sample: /root/.cache/vouch/guests/5d0c2f6e0d4c7a8fb2a2d5bd5b6dbd3c7cf4f7ad8f3a5b1c1b6a1ff04a6d5f0e
image:
  description: Description of the image, the input of M(vouch_guest_package); empty when it was not built (check mode).
  returned: always
  type: dict
  sample: {"name": "base", "variant": "production"}
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.imaging.cache import DESCRIPTION, file_sha256
from ansible.module_utils.vouch.imaging.delivery import deliver
from ansible.module_utils.vouch.imaging.guestimage import FILES, GuestCache
from ansible.module_utils.vouch.imaging.guestspec import GuestSpec
from ansible.module_utils.vouch.imaging.sources import builder_code, source
from ansible.module_utils.vouch.imaging.spec import ImageFile
from ansible.module_utils.vouch.make.pyclosure import import_closure

if TYPE_CHECKING:  # so that they travel to the builder, whose Python need not be able to run them
    from ansible.module_utils.vouch.authority import __main__ as authority_main  # noqa: F401
    from ansible.module_utils.vouch.notary import __main__ as notary_main  # noqa: F401
    from ansible.module_utils.vouch.notary import building as notary_building  # noqa: F401


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    strings: dict[str, Any] = {"type": "list", "elements": "str"}
    return {
        "tree": {"type": "path", "required": True},
        "tree_sha256": {"type": "str", "default": ""},
        "name": {"type": "str", "required": True},
        "variant": {"type": "str", "choices": ["production", "debug"], "default": "production"},
        "packages": {"type": "dict", "required": True},
        "libraries": {**strings, "default": []},
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
        "users": {"type": "dict", "default": {}},
        "python_roots": {**strings, "default": []},
        "sources": {**strings, "default": []},
        "initrd_script": {"type": "str", "required": True},
        "initrd_modules": {**strings, "required": True},
        "initrd_load": {**strings, "required": True},
        "kernel_options": {**strings, "required": True},
        "erofs_options": {**strings, "default": []},
        "policy": {"type": "str", "required": True},
        "file_contexts": {"type": "str", "required": True},
        "intent": {"type": "dict", "required": True},
        "source_date_epoch": {"type": "int", "default": 0},
        "cache_dir": {"type": "path", "default": ""},
        "output_dir": {"type": "path", "default": ""},
        "store_dir": {"type": "path", "default": ""},
        "state": {"type": "str", "choices": ["present", "rebuilt"], "default": "present"},
    }


def default_cache() -> Path:
    """Return the cache directory of this user (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "vouch" / "guests"


def specification(params: dict[str, Any]) -> GuestSpec:
    """Return what the options ask for."""
    return GuestSpec(
        name=params["name"],
        variant=params["variant"],
        packages={name: tuple(patterns) for name, patterns in params["packages"].items()},
        libraries=tuple(params["libraries"]),
        files=tuple(ImageFile.of(**entry) for entry in params["files"]),
        users={name: int(number) for name, number in params["users"].items()},
        python_roots=tuple(params["python_roots"]),
        sources=tuple(params["sources"]),
        initrd_script=params["initrd_script"],
        initrd_modules=tuple(params["initrd_modules"]),
        initrd_load=tuple(params["initrd_load"]),
        kernel_options=tuple(params["kernel_options"]),
        erofs_options=tuple(params["erofs_options"]),
        policy=params["policy"],
        file_contexts=params["file_contexts"],
        intent=params["intent"],
        source_date_epoch=params["source_date_epoch"],
    )


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Bring cache and output to the wanted state and return the module's result."""
    spec = specification(params)
    tree = Path(params["tree"])
    python = import_closure(spec.python_roots, source=source, package="vouch")
    key = spec.key(
        tree_sha256=params["tree_sha256"] or file_sha256(tree),
        code={**{f"guest/{name}": text for name, text in python.items()}, **builder_code()},
    )
    folder = Path(params["cache_dir"]) if params["cache_dir"] else default_cache()
    cache = GuestCache(folder)
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
