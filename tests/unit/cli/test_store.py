# SPDX-License-Identifier: GPL-3.0-or-later
"""``vouch-store`` on real stores: what it prints, what it exits with, what it leaves."""

from __future__ import annotations

import io
import json
import pathlib
import time

import pytest
from ansible.module_utils.vouch.cli.store import DONE, FALSE, UNUSABLE, main
from ansible.module_utils.vouch.make.bundle import write_bundle
from ansible.module_utils.vouch.make.sign import public_pem
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.store.bundles import BundleStore
from ansible.module_utils.vouch.store.database import Database
from ansible.module_utils.vouch.store.events import Event, EventStore
from ansible.module_utils.vouch.store.results import Appraised, ResultStore
from ansible.module_utils.vouch.store.revisions import REVISIONS
from ansible.module_utils.vouch.store.schema import open_store, upgrade

from standingparts import KEY, OTHER_KEY, host_id, sealed, standing


def run(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return main([str(item) for item in arguments], out, err), out.getvalue(), err.getvalue()


@pytest.fixture
def key(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "key.pub"
    path.write_bytes(public_pem(KEY))
    return path


def test_upgrade(store_url: str) -> None:
    assert run("upgrade", store_url) == (DONE, f"revision 0 became {len(REVISIONS)}\n", "")
    assert run("upgrade", store_url) == (DONE, f"revision {len(REVISIONS)}, as before\n", "")


def test_an_old_store_says_what_to_do(store_url: str, key: pathlib.Path) -> None:
    database = Database(store_url, make=True)
    upgrade(database, REVISIONS[:1])
    database.close()
    code, _, err = run("list", store_url, "--key", key)
    assert code == UNUSABLE
    assert "vouch-store upgrade" in err
    assert run("upgrade", store_url)[0] == DONE
    assert run("list", store_url, "--key", key) == (DONE, "", "")


def test_list_verifies_what_it_shows(store_url: str, key: pathlib.Path) -> None:
    now_s = int(time.time())
    database = open_store(store_url, make=True)
    times = {"issued_at_s": now_s, "expires_at_s": now_s + 600}
    evil = "bad\x1b[2J\u202e"
    ResultStore(database).put(
        sealed(standing(1, **times), standing(1, "web", verdict=Verdict.CONTRAINDICATED, reasons=(evil,), **times))
    )
    code, out, _ = run("list", store_url, "--key", key)
    assert code == DONE
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["h1", "affirming"]
    assert lines[1].split()[:2] == ["h1/web", "contraindicated"]
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert [row["status"] for row in json.loads(run("list", store_url, "--key", key, "--json")[1])] == [
        "affirming",
        "contraindicated",
    ]
    key.write_bytes(public_pem(OTHER_KEY))
    code, out, err = run("list", store_url, "--key", key)
    assert (code, out) == (FALSE, "")
    assert "store.tampered" in err
    database.close()


def test_events_bundle_and_removal(store_url: str, tmp_path: pathlib.Path) -> None:
    database = open_store(store_url, make=True)
    parts = {"result.json": b"{}", "policy.json": b"p"}
    bundle = BundleStore(tmp_path / "bundles").put(parts)
    at_s = 1_700_000_000
    ResultStore(database).put(
        sealed(standing(1)), [Appraised(host_id=host_id(1), issued_at_s=at_s, result=b"{}", bundle=bundle)]
    )
    EventStore(database).add([Event(at_s, host_id(1), "host", "verdict", "affirming", "")])
    assert run("events", store_url, "h1")[1] == "2023-11-14T22:13:20Z  host  verdict  affirming\n"
    target = tmp_path / "out.tar"
    assert run("bundle", store_url, "h1", "--bundles", tmp_path / "bundles", "--output", target)[0] == DONE
    assert target.read_bytes() == write_bundle(parts)
    assert run("prune", store_url, "--days", 1, "--bundles", tmp_path / "bundles")[:2] == (
        DONE,
        "0 standings and 1 events removed\n0 MiB of bundles removed\n",
    )
    assert run("remove-host", store_url, "h1")[0] == DONE
    for command in ("remove-host", "events"):
        code, _, err = run(command, store_url, "h1")
        assert code == UNUSABLE
        assert "store.host.unknown" in err
    database.close()


def test_misuse(store_url: str, tmp_path: pathlib.Path) -> None:
    open_store(store_url, make=True).close()
    assert "usage.days" in run("prune", store_url, "--days", 0)[2]
    assert run("list", "mysql://x/y", "--key", tmp_path / "none")[0] == UNUSABLE
    with pytest.raises(SystemExit) as caught:
        run("list", store_url)
    assert caught.value.code == UNUSABLE
