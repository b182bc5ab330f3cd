# SPDX-License-Identifier: GPL-3.0-or-later
"""SARIF 2.1.0: the members and references the standard asks for, and fingerprints that stay."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import jsonschema
import pytest
from ansible.module_utils.vouch.explain.sarif import FINGERPRINT, to_sarif
from ansible.module_utils.vouch.explain.story import KINDS, SEVERITIES, Story

from sim.conflicts import READ, STORIES, hostile

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
LOCATION = {
    "type": "object",
    "required": ["physicalLocation", "logicalLocations"],
    "additionalProperties": False,
    "properties": {
        "message": TEXT,
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation"],
            "properties": {"artifactLocation": {"type": "object", "required": ["uri"]}},
        },
        "logicalLocations": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["fullyQualifiedName"],
                "properties": {key: {"type": "string"} for key in ("name", "fullyQualifiedName", "kind")},
            },
        },
    },
}
RESULT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["ruleId", "ruleIndex", "level", "message", "locations", "partialFingerprints"],
    "properties": {
        "ruleId": {"type": "string"},
        "ruleIndex": {"type": "integer", "minimum": 0},
        "level": {"enum": ["none", "note", "warning", "error"]},
        "kind": {"const": "fail"},
        "message": TEXT,
        "locations": {"type": "array", "minItems": 1, "items": LOCATION},
        "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
        "properties": {"type": "object"},
        "codeFlows": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["threadFlows"],
                "properties": {
                    "threadFlows": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "required": ["locations"],
                            "properties": {
                                "locations": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": {"type": "object", "properties": {"location": LOCATION}},
                                }
                            },
                        },
                    }
                },
            },
        },
    },
}
RULE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "shortDescription", "fullDescription", "help", "defaultConfiguration"],
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string", "pattern": "^[A-Za-z0-9]+$"},
        "shortDescription": TEXT,
        "fullDescription": TEXT,
        "help": TEXT,
        "defaultConfiguration": {"type": "object"},
        "properties": {"type": "object"},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "properties": {
                    "results": {"type": "array", "items": RESULT},
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name", "rules"],
                                "properties": {
                                    "name": {"type": "string"},
                                    "rules": {"type": "array", "items": RULE, "uniqueItems": True},
                                },
                            }
                        },
                    },
                    "invocations": {
                        "type": "array",
                        "items": {"type": "object", "required": ["executionSuccessful"]},
                    },
                },
            },
        },
    },
}
"""The part of the standard's schema that we write (3.13, 3.14, 3.19, 3.27, 3.28, 3.33, 3.36, 3.37, 3.49)."""


def log(*stories: Story) -> dict[str, Any]:
    """Return the SARIF log of ``stories`` as a reader gets it."""
    made: dict[str, Any] = json.loads(
        json.dumps(to_sarif(stories, policy="build/policy 1.33", version="0.1.0", total=500_000))
    )
    jsonschema.validate(made, SCHEMA)
    return made


@pytest.mark.parametrize("stories", [(), STORIES, (hostile(),)], ids=["none", "some", "hostile"])
def test_structure(stories: tuple[Story, ...]) -> None:
    (run,) = log(*stories)["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        for location in result["locations"]:
            assert re.fullmatch(r"[!-~]+", location["physicalLocation"]["artifactLocation"]["uri"])


def test_every_kind_and_severity_has_help() -> None:
    stories = [dataclasses.replace(READ, kind=kind, severity=severity) for kind in KINDS for severity in SEVERITIES]
    (run,) = log(*stories)["runs"]
    assert len(run["tool"]["driver"]["rules"]) == len(stories)


def test_the_path_is_the_flow() -> None:
    (run,) = log(READ)["runs"]
    (flow,) = run["results"][0]["codeFlows"][0]["threadFlows"]
    said = [step["location"]["message"]["text"] for step in flow["locations"]]
    assert said[0].startswith("staff_t writes: allow staff_t user_tmp_t:file")
    assert "(where allow_x && !y)" in said[0]
    assert said[1].startswith("init_t reads: allow init_t file_type:file")


def test_fingerprints_stay_when_rules_move() -> None:
    assert READ.write is not None
    moved = dataclasses.replace(READ, write=dataclasses.replace(READ.write, rule_number=9, rules=1), writer_count=2)
    prints = [log(story)["runs"][0]["results"][0]["partialFingerprints"][FINGERPRINT] for story in (READ, moved)]
    assert prints[0] == prints[1]
    assert len({r["partialFingerprints"][FINGERPRINT] for r in log(*STORIES)["runs"][0]["results"]}) == len(STORIES)


def test_what_is_not_reported_is_counted() -> None:
    (run,) = log(READ)["runs"]
    assert run["properties"] == {"conflicts": 500_000, "reported": 1}


def test_an_absolute_path_is_a_file_uri() -> None:
    made = to_sarif([READ], policy="/srv/p", version="1", total=1)
    assert made["runs"][0]["artifacts"][0]["location"]["uri"] == "file:///srv/p"
