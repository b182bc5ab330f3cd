# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of the Ansible side: roles say what they take, modules document what they accept, playbooks parse."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from ansible.config.manager import ConfigManager
from ansible.module_utils.vouch.port.hostoptions import HOST_OPTIONS
from ansible.plugins.loader import fragment_loader
from ansible.utils.plugin_docs import get_docstring

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
MODULES = sorted((ROOT / "library").glob("*.py"))
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
SCENARIOS = sorted((ROOT / "molecule").glob("*/molecule.yml"))

TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "path": (str,),
    "raw": (object,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
    "bytes": (str, int),
}
"""What a default of each argument type looks like in YAML; a template is text and fits every type."""


def load(path: pathlib.Path) -> Any:
    """Return the parsed YAML of ``path``; an empty or absent file is an empty mapping."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None) or {}


def name_of(path: pathlib.Path) -> str:
    """Return the id of a parametrised test."""
    return path.stem


def spec_of(role: pathlib.Path) -> dict[str, Any]:
    """Return the options of every entry point of ``role``."""
    spec = load(role / "meta" / "argument_specs.yml")
    assert "main" in spec.get("argument_specs", {}), f"{role.name} has no meta/argument_specs.yml with entry point main"
    options: dict[str, Any] = {}
    for entry in spec["argument_specs"].values():
        options.update(entry.get("options") or {})
    return options


@pytest.mark.parametrize("role", ROLES, ids=name_of)
def test_role_defaults_are_the_documented_ones(role: pathlib.Path) -> None:
    """``default:`` in a specification sets nothing, so the two files must say the same."""
    defaults = load(role / "defaults" / "main.yml")
    options = spec_of(role)
    undocumented = sorted(set(defaults) - set(options))
    assert not undocumented, f"in defaults/main.yml, not in meta/argument_specs.yml: {undocumented}"
    for name, option in options.items():
        if name in defaults:
            assert not option.get("required"), f"{name} has a default and is required"
            assert "default" in option or defaults[name] is None, f"{name}: the specification leaves the default out"
            assert option.get("default") == defaults[name], f"{name}: {option.get('default')!r} != {defaults[name]!r}"
        else:
            assert "default" not in option, f"{name}: documented default {option['default']!r}, but none is set"


@pytest.mark.parametrize("role", ROLES, ids=name_of)
def test_role_defaults_have_their_type(role: pathlib.Path) -> None:
    defaults = load(role / "defaults" / "main.yml")
    for name, option in spec_of(role).items():
        kind = option.get("type", "str")
        assert kind in TYPES, f"{name}: unknown type {kind}"
        assert option.get("description"), f"{name}: no description"
        value = defaults.get(name)
        is_template = isinstance(value, str) and "{{" in value
        if value is not None and not is_template:
            assert isinstance(value, TYPES[kind]), f"{name}: {value!r} is no {kind}"
            assert not (kind in {"int", "float"} and isinstance(value, bool)), f"{name}: {value!r} is no {kind}"
        choices = option.get("choices")
        if choices and value is not None and not is_template:
            assert set(value if kind == "list" else [value]) <= set(choices), f"{name}: {value!r} is none of {choices}"


@pytest.mark.parametrize("role", ROLES, ids=name_of)
def test_role_variables_carry_its_name(role: pathlib.Path) -> None:
    names = set(load(role / "defaults" / "main.yml")) | set(spec_of(role))
    for file in sorted((role / "vars").glob("*.yml")):
        names |= set(load(file))
    wrong = sorted(name for name in names if not re.match(rf"(__)?{role.name}(_|$)", name))
    assert not wrong, f"variables of role {role.name} without its prefix: {wrong}"


@pytest.mark.parametrize("role", ROLES, ids=name_of)
def test_role_readme_has_every_variable(role: pathlib.Path) -> None:
    readme = role / "README.md"
    assert readme.is_file(), f"{role.name} has no README.md"
    rows = re.findall(r"^\|\s*`(\w+)`", readme.read_text(encoding="utf-8"), re.MULTILINE)
    options = set(spec_of(role))
    assert not options - set(rows), f"not in the README's table: {sorted(options - set(rows))}"
    gone = sorted(name for name in rows if name.startswith(f"{role.name}_") and name not in options)
    assert not gone, f"in the README's table, but no variable of the role: {gone}"


class CapturedError(Exception):
    """Carries the arguments with which a module made its ``AnsibleModule``."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__("captured")
        self.arguments = arguments


def module_arguments(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, dict[str, Any]]:
    """Import the module at ``path`` and return it with the arguments of its ``AnsibleModule``."""
    import ansible.module_utils.basic as basic

    def capture(**arguments: Any) -> None:
        raise CapturedError(arguments)

    monkeypatch.setattr(basic, "AnsibleModule", capture)
    spec = importlib.util.spec_from_file_location(f"structure_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "AnsibleModule", capture, raising=False)
    with pytest.raises(CapturedError) as caught:
        module.main()
    return module, caught.value.arguments


@pytest.fixture(scope="module", autouse=True)
def our_fragments() -> None:
    """Have Ansible look for fragments where ansible.cfg says, wherever the tests are started."""
    for folder in ConfigManager(str(ROOT / "ansible.cfg")).get_config_value("DOC_FRAGMENT_PLUGIN_PATH"):
        fragment_loader.add_directory(folder)


def documentation_of(path: pathlib.Path) -> dict[str, Any]:
    """Return what ``ansible-doc`` knows of the module at ``path``: its own words and those of its fragments."""
    documentation, *_ = get_docstring(str(path), fragment_loader, plugin_type="module")
    return dict(documentation)


def compare_options(where: str, documented: Mapping[str, Any], accepted: Mapping[str, Any]) -> None:
    """Assert that two option tables are one, down to the suboptions."""
    assert set(documented) == set(accepted), f"{where}: documented {sorted(documented)}, accepted {sorted(accepted)}"
    for name, option in accepted.items():
        said = documented[name]
        place = f"{where}.{name}"
        assert said.get("description"), f"{place}: no description"
        for key, otherwise in (("type", "str"), ("required", False), ("default", None), ("elements", None)):
            assert said.get(key, otherwise) == option.get(key, otherwise), f"{place}: {key}"
        assert list(said.get("choices") or []) == list(option.get("choices") or []), f"{place}: choices"
        assert list(said.get("aliases") or []) == list(option.get("aliases") or []), f"{place}: aliases"
        if option.get("options") or said.get("suboptions"):
            compare_options(place, said.get("suboptions") or {}, option.get("options") or {})


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_documents_what_it_accepts(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, arguments = module_arguments(path, monkeypatch)
    documentation = documentation_of(path)
    assert documentation["module"] == path.stem
    assert documentation["short_description"]
    compare_options(path.stem, documentation.get("options") or {}, arguments.get("argument_spec") or {})
    attributes = documentation.get("attributes") or {}
    if "check_mode" in attributes:
        supported = attributes["check_mode"]["support"] in {"full", "partial"}
        assert supported == bool(arguments.get("supports_check_mode")), f"{path.stem}: check_mode"


@pytest.mark.parametrize("option", HOST_OPTIONS)
def test_an_option_of_a_fragment_is_compared_too(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / "library" / "vouch_guest_info.py"
    _, arguments = module_arguments(path, monkeypatch)
    documented, accepted = documentation_of(path)["options"], arguments["argument_spec"]
    compare_options("alike", documented, accepted)
    fewer_accepted, fewer_documented = (
        {name: value for name, value in table.items() if name != option} for table in (accepted, documented)
    )
    with pytest.raises(AssertionError, match="not accepted: documented"):
        compare_options("not accepted", documented, fewer_accepted)
    with pytest.raises(AssertionError, match="not documented: documented"):
        compare_options("not documented", fewer_documented, accepted)
    other = {**accepted, option: {**accepted[option], "type": "raw"}}
    with pytest.raises(AssertionError, match=rf"other\.{option}: type"):
        compare_options("other", documented, other)


def test_the_way_to_a_host_is_documented_once(monkeypatch: pytest.MonkeyPatch) -> None:
    takers = []
    for path in MODULES:
        module, arguments = module_arguments(path, monkeypatch)
        if HOST_OPTIONS.keys() <= arguments["argument_spec"].keys():
            takers.append(path.stem)
            own = yaml.safe_load(module.DOCUMENTATION)
            repeated = sorted(HOST_OPTIONS.keys() & own["options"].keys())
            assert not repeated, f"{path.stem} repeats what fragment vouch_host says: {repeated}"
    assert takers


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_shows_examples_and_results(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, arguments = module_arguments(path, monkeypatch)
    examples = yaml.safe_load(module.EXAMPLES)
    assert examples
    assert all("name" in task for task in examples), f"{path.stem}: an example without a name"
    used = [options for task in examples for key, options in task.items() if key == path.stem]
    assert used, f"{path.stem}: no example uses it"
    for options in used:
        unknown = sorted(set(options or {}) - set(arguments["argument_spec"]))
        assert not unknown, f"{path.stem}: an example uses unknown options {unknown}"
    for name, value in yaml.safe_load(module.RETURN).items():
        missing = sorted({"description", "returned", "type"} - set(value))
        assert not missing, f"{path.stem}: RETURN {name} lacks {missing}"


@pytest.mark.skipif(not PLAYBOOKS, reason="no playbooks")
def test_playbooks_parse(tmp_path: pathlib.Path) -> None:
    """One run for all: every playbook, role and module name resolves from the root with our ansible.cfg."""
    done = subprocess.run(
        [
            *(str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "--syntax-check"),
            *(str(path) for path in PLAYBOOKS),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", PLAYBOOKS, ids=name_of)
def test_playbook_names_everything(path: pathlib.Path) -> None:
    plays = load(path)
    assert plays, f"{path.name} is empty"
    for play in plays:
        assert play.get("name"), f"{path.name}: a play without a name"


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.parent.name)
def test_scenario_uses_our_configuration(path: pathlib.Path) -> None:
    """Molecule writes its own ansible.cfg; without this line it finds none of our roles and modules."""
    config = path.read_text(encoding="utf-8")
    base = ROOT / ".config" / "molecule" / "config.yml"
    config += base.read_text(encoding="utf-8") if base.is_file() else ""
    assert re.search(r"ANSIBLE_CONFIG:.*MOLECULE_PROJECT_DIRECTORY.*/ansible\.cfg", config), (
        f"{path}: no ANSIBLE_CONFIG"
    )
