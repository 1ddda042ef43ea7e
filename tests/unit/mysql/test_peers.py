"""What the answers and the silences of a node are taken for."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pymysql
import pytest
from node.decide import Down, Unknown
from node.peers import facts, on_network, silence

U = "aaaaaaaa-0000-0000-0000-000000000001"
ROW: dict[str, Any] = {
    "owned": "",
    "executed": f"{U}:1-9",
    "purged": "",
    "read_only": 1,
    "super_read_only": 1,
    "has_schema": 1,
    "source": "db1",
    "receiver": "ON",
    "receiver_errno": 0,
    "receiver_error": "",
    "received": f"{U}:5-9",
    "applier": "ON",
    "applier_errno": 0,
    "applier_error": "",
}
NO_CHANNEL = dict.fromkeys([key for key in ROW if key.startswith(("source", "receive", "applier"))])


def test_a_replica() -> None:
    found = facts("db2", ROW)
    assert (found.source, found.writable, found.drained) == ("db1", False, True)
    assert found.receiving
    assert found.connected
    assert found.applying
    assert not found.fault


def test_a_primary_without_channel() -> None:
    found = facts("db1", {**ROW, **NO_CHANNEL, "read_only": 0, "owned": f"{U}:10:11"})
    assert len(found.owned) == 2
    assert found.writable
    assert found.source is None
    assert not found.applying


def test_a_copied_channel_to_itself_is_none() -> None:
    assert facts("db1", ROW).source is None


@pytest.mark.parametrize(
    ("change", "fault", "trouble"),
    [
        ({"receiver": "CONNECTING", "receiver_errno": 2003}, False, "receiver error 2003"),
        (
            {
                "receiver": "OFF",
                "receiver_errno": 13114,
                "receiver_error": "… the source purged required binary logs …",
            },
            True,
            "receiver error 13114",
        ),
        (
            {"receiver": "OFF", "receiver_errno": 13114, "receiver_error": "same server_uuid"},
            False,
            "receiver error 13114",
        ),
        ({"applier": "OFF", "applier_errno": 1062}, True, "applier error 1062"),
        ({"applier": "OFF", "applier_errno": 1114}, False, "applier error 1114"),  # disk full
    ],
)
def test_what_only_a_copy_mends(change: dict[str, Any], fault: bool, trouble: str) -> None:
    found = facts("db2", {**ROW, **change})
    assert bool(found.fault) == fault
    assert found.trouble == trouble


def _lost(cause: OSError) -> pymysql.MySQLError:
    error = pymysql.OperationalError(2003, f"Can't connect: {cause}")
    error.original_exception = cause  # type: ignore[attr-defined]  # as pymysql does
    return error


@pytest.mark.parametrize(
    ("error", "on", "expected"),
    [
        (_lost(ConnectionRefusedError()), True, Down),
        (_lost(socket.gaierror(socket.EAI_NONAME, "")), True, Down),
        (_lost(socket.gaierror(socket.EAI_AGAIN, "")), True, Down),
        (_lost(socket.gaierror(socket.EAI_AGAIN, "")), False, Unknown),
        (_lost(TimeoutError()), True, Unknown),
        (_lost(OSError(errno.EHOSTUNREACH, "")), True, Unknown),
        (pymysql.OperationalError(2013, "Lost connection"), True, Unknown),
        (pymysql.OperationalError(1045, "Access denied"), True, Unknown),
        (pymysql.OperationalError(1040, "Too many connections"), True, Unknown),
        (RuntimeError("anything"), True, Unknown),
    ],
)
def test_only_proof_counts_as_down(error: Exception, on: bool, expected: type) -> None:
    assert isinstance(silence("db2", error, on_network=on), expected)


def test_different_secrets_are_told_apart() -> None:
    silent = silence("db2", pymysql.OperationalError(1045, "Access denied"), on_network=True)
    assert isinstance(silent, Unknown)
    assert "secrets" in silent.why


def test_cut_off_from_every_network() -> None:
    header = "Iface\tDestination\tGateway\n"
    assert not on_network(lambda: header)
    assert on_network(lambda: header + "eth0\t00000000\t010011AC\n")
