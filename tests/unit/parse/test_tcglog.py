# SPDX-License-Identifier: GPL-3.0-or-later
"""The firmware event log: both forms, limits, and logs of real machines."""

from __future__ import annotations

import json
import pathlib
import struct
from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.parse import tcglog

from sim.firmware import SimFirmware


def agile(**kwargs: object) -> bytes:
    firmware = SimFirmware(**kwargs)  # type: ignore[arg-type]
    firmware.measure(4, tcglog.EV_EFI_ACTION, b"action")
    firmware.measure(4, tcglog.EV_SEPARATOR, bytes(4))
    return firmware.log


def spec_event(data: bytes) -> bytes:
    return struct.pack("<II20sI", 0, tcglog.EV_NO_ACTION, b"", len(data)) + data


def spec_data(algorithms: list[tuple[int, int]], *, count: int | None = None, vendor: bytes = b"\0") -> bytes:
    data = tcglog.SPEC_ID_SIGNATURE + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(algorithms) if count is None else count)
    return data + b"".join(struct.pack("<HH", *a) for a in algorithms) + vendor


def test_agile_log() -> None:
    log = tcglog.parse_event_log(agile(algorithms=("sha1", "sha256")))
    assert log.spec is not None
    assert (log.spec.major, log.spec.minor, log.spec.errata, log.spec.uintn_size) == (2, 0, 0, 2)
    assert log.algorithms == ("sha1", "sha256")
    assert [e.type_name for e in log.events] == ["EV_NO_ACTION", "EV_EFI_ACTION", "EV_SEPARATOR"]
    assert [e.index for e in log.events] == [0, 1, 2]
    assert log.events[1].data == b"action"
    assert {name: len(d) for name, d in log.events[1].digests.items()} == {"sha1": 20, "sha256": 32}
    assert log.events[1].offset_bytes == len(spec_event(spec_data([(4, 20), (11, 32)])))
    assert log.trailing == b""


def test_legacy_log() -> None:
    log = tcglog.parse_event_log(agile(algorithms=()))
    assert log.spec is None
    assert log.algorithms == ("sha1",)
    assert [e.data for e in log.events] == [b"action", bytes(4)]


def test_unknown_event_type_keeps_its_number() -> None:
    firmware = SimFirmware()
    firmware.measure(0, 0x8000BEEF, b"")
    assert tcglog.parse_event_log(firmware.log).events[1].type_name == "0x8000beef"


def test_an_unknown_algorithm_is_carried_by_its_declared_size() -> None:
    log = tcglog.parse_event_log(agile(algorithms=("sha256",), extra_algorithms=((0x0041, 17), (0x0012, 32))))
    assert log.algorithms == ("sha256", "alg-0x0041", "sm3_256")
    assert log.events[1].digests["alg-0x0041"] == b"\xaa" * 17


@pytest.mark.parametrize("padding", [bytes(100), b"\xff" * 100, b"\x01\x02\x03", bytes(1)])
@pytest.mark.parametrize("algorithms", [(), ("sha256",)])
def test_what_is_no_record_is_handed_out(algorithms: tuple[str, ...], padding: bytes) -> None:
    firmware = SimFirmware(algorithms)
    firmware.measure(4, tcglog.EV_EFI_ACTION, b"action")
    log = tcglog.parse_event_log(firmware.log + padding)
    assert log.trailing == padding
    assert log.events[-1].data == b"action"


def event2(digests: bytes, count: int, *, size: int = 0, data: bytes = b"") -> bytes:
    return struct.pack("<III", 4, tcglog.EV_IPL, count) + digests + struct.pack("<I", size) + data


HEAD = spec_event(spec_data([(0x000B, 32)]))
SHA256 = struct.pack("<H", 0x000B) + b"d" * 32

BAD = {
    "empty": b"",
    "one byte": b"\0",
    "no log": b"bogus\ninvalid\nevent\nlog\nfile\nhere\n",
    "first record at an impossible register": struct.pack("<II20sI", 99, 8, b"", 0),
    "no algorithms": spec_event(spec_data([])),
    "too many algorithms": spec_event(spec_data([(0x100 + i, 8) for i in range(17)])),
    "algorithm count past the end": spec_event(spec_data([(0x000B, 32)], count=4, vendor=b"")),
    "known algorithm with another size": spec_event(spec_data([(0x000B, 20)])),
    "unknown algorithm without a size": spec_event(spec_data([(0x0041, 0)])),
    "unknown algorithm with a huge size": spec_event(spec_data([(0x0041, 129)])),
    "algorithm declared twice": spec_event(spec_data([(0x000B, 32), (0x000B, 32)])),
    "spec id cut": spec_event(spec_data([(0x000B, 32)])[:30]),
    "undeclared digest": HEAD + event2(struct.pack("<H", 4) + b"d" * 20, 1),
    "digest twice": spec_event(spec_data([(0x000B, 32), (0x0004, 20)])) + event2(SHA256 + SHA256, 2),
    "more digests than algorithms": HEAD + event2(SHA256 + SHA256, 2),
    "digest count near the integer limit": HEAD + event2(SHA256, 0xFFFFFFFF),
    "digest cut": HEAD + event2(SHA256[:20], 1)[:-4],
    "event longer than the log": HEAD + event2(SHA256, 1, size=10, data=b"short"),
    "event of four gigabytes": HEAD + event2(SHA256, 1, size=0xFFFFFFFF),
    "zeros, then something": HEAD + bytes(64) + b"\x01" * 20,
    "second record cut": HEAD + event2(SHA256, 1, size=3, data=b"abc")[:-1],
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_malformed(data: bytes) -> None:
    with pytest.raises(ParseError):
        tcglog.parse_event_log(data)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    log = agile(algorithms=("sha256",))
    for name, value, code in (
        ("MAX_LOG_BYTES", len(log) - 1, "parse.too-large"),
        ("MAX_EVENTS", 2, "parse.too-many"),
        ("MAX_EVENT_BYTES", 5, "parse.too-large"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(tcglog, name, value)
            with pytest.raises(ParseError) as error:
                tcglog.parse_event_log(log)
            assert error.value.code == code
    tcglog.parse_event_log(log)


def test_vendor_bytes_outside_the_event_are_trailing() -> None:
    log = tcglog.parse_event_log(spec_event(spec_data([(0x000B, 32)], vendor=b"\x04")) + b"\xde\xad\xbe\xef")
    assert log.trailing == b"\xde\xad\xbe\xef"


def test_foreign_logs(shared_data: Callable[[str], pathlib.Path]) -> None:
    folder = shared_data("eventlog")
    wrong = []
    for entry in json.loads((folder / "expected.json").read_text())["files"]:
        name, expect = entry["file"], entry["expect"]
        if "verdict" not in expect:
            continue
        data = (folder / name).read_bytes()
        if expect["verdict"] == "reject":
            with pytest.raises(ParseError):
                tcglog.parse_event_log(data)
            continue
        log = tcglog.parse_event_log(data)
        form = "legacy" if log.spec is None else "crypto_agile"
        found = (len(log.events), list(log.algorithms), len(log.trailing), form)
        wanted = (expect["events"], expect["banks"], expect["trailing_bytes"], expect["format"])
        odd = [e.index for e in log.events if e.pcr == 0xFFFFFFFF]
        if found != wanted or odd != expect.get("pcr_index_0xffffffff_events", []):
            wrong.append((name, found, wanted))
        if log.spec is not None:
            spec = f"{log.spec.major}.{log.spec.minor} errata {log.spec.errata}, uintn {log.spec.uintn_size}"
            if spec != expect["spec_id"]:
                wrong.append((name, spec, expect["spec_id"]))
    assert not wrong
