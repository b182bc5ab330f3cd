# SPDX-License-Identifier: GPL-3.0-or-later
"""What a register says of whom, and which stores it does not take at all."""

from __future__ import annotations

import pathlib

import pytest
import sqlalchemy
from ansible.module_utils.vouch.errors import EvidenceError
from ansible.module_utils.vouch.fleet.register import Register, read_register
from ansible.module_utils.vouch.make.sign import public_key
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.model.standing import Standing
from ansible.module_utils.vouch.store.results import ResultStore
from ansible.module_utils.vouch.store.schema import open_store

from standingparts import NOW_S, OTHER_KEY, PUBLIC, host_id, sealed, standing


def test_hosts_and_their_guests() -> None:
    told = [standing(1), standing(1, "web"), standing(1, "db"), standing(2)]
    register = Register(told)
    assert register.host("h1") == told[0]
    assert register.guest("h1", "web") == told[1]
    assert register.guest("h2", "web") is None
    assert register.host("h3") is None
    assert register.guest("h3", "web") is None
    assert list(register) == [told[0], told[2], told[1], told[3]]


def test_a_guest_that_its_host_no_longer_mentions_is_gone() -> None:
    register = Register([standing(1, issued_at_s=NOW_S + 1), standing(1, "web")])
    assert register.guest("h1", "web") is None
    assert [item.guest for item in register] == [""]
    pushed = standing(1, "web", issued_at_s=NOW_S + 1, verdict=Verdict.CONTRAINDICATED)
    assert Register([standing(1), pushed]).guest("h1", "web") == pushed
    assert Register([standing(1, "web")]).guest("h1", "web") is None, "no host speaks for it"


def test_a_guest_belongs_to_the_host_of_that_id_whatever_its_name_was() -> None:
    register = Register([standing(1, name="new"), standing(1, "web", name="old")])
    assert register.guest("new", "web") is not None
    assert register.guest("old", "web") is None


@pytest.mark.parametrize(
    "told",
    [
        [standing(1), standing(1)],
        [standing(1), standing(2, name="h1")],
        [standing(1), standing(1, name="other")],
        [standing(1), standing(1, "web"), standing(1, "web", reasons=("x",))],
    ],
)
def test_no_honest_store_has_two_for_one(told: list[Standing]) -> None:
    with pytest.raises(EvidenceError, match=r"store\.duplicate"):
        Register(told)


def test_one_altered_row_takes_the_whole_store_down(tmp_path: pathlib.Path) -> None:
    database = open_store(f"sqlite:///{tmp_path}/store.db", make=True)
    store = ResultStore(database)
    bad = standing(2, verdict=Verdict.CONTRAINDICATED)
    store.put(sealed(standing(1), bad))
    assert read_register(store, [PUBLIC]).host("h2") == bad
    with pytest.raises(EvidenceError, match=r"store\.tampered"):
        read_register(store, [public_key(OTHER_KEY)])
    with database.writing() as connection:
        changed = sqlalchemy.text("UPDATE standings SET standing = :s, verdict = 'affirming' WHERE host_id = :h")
        connection.execute(changed, {"s": standing(2).to_bytes(), "h": host_id(2)})
    with pytest.raises(EvidenceError, match=r"store\.tampered"):
        read_register(store, [PUBLIC])
    database.close()
