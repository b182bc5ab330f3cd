# SPDX-License-Identifier: GPL-3.0-or-later
"""A story says who writes, who reads, and why that matters."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.vouch.explain.story import Story

from sim.conflicts import ANYBODY, DIRECT, READ, STORIES

SENTENCES = {
    READ: "staff_t may append and write user_tmp_t:file, and init_t may execute it: what was written is run.",
    DIRECT: "user_t may sigkill init_t:process: an untrusted subject acts on a trusted one itself.",
    ANYBODY: "sshd_t reads sshd_t:tcp_socket, which counts as written by anybody.",
}


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.key)
def test_sentence(story: Story) -> None:
    assert story.sentence() == SENTENCES[story]
    assert json.loads(json.dumps(story.to_json()))["sentence"] == story.sentence()


def test_title_counts_those_who_are_not_named() -> None:
    assert READ.title() == "staff_t (and 16 more) -> user_tmp_t:file -> init_t"
    assert DIRECT.title() == "user_t -> init_t:process"
    assert ANYBODY.title() == "anybody -> sshd_t:tcp_socket -> sshd_t"


def test_keys_differ() -> None:
    assert len({story.key for story in STORIES}) == len(STORIES)
