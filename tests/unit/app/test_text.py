"""What names, passwords and messages may be."""

from __future__ import annotations

import pytest
from wall.text import check_name, check_password, clean_body


@pytest.mark.parametrize("name", ["abc", "A-b_9", "x" * 32])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "ab", "x" * 33, "a b", "abc\n", "äbc", "<b>", "a\0bc", "٣٣٣"])
def test_bad_names(name: str) -> None:
    with pytest.raises(ValueError, match=r"3 to 32"):
        check_name(name)


@pytest.mark.parametrize("password", ["x" * 10, "x" * 128, "pässwörter 👋"])
def test_good_passwords(password: str) -> None:
    assert check_password(password) == password


@pytest.mark.parametrize("password", ["", "x" * 9, "x" * 129, "\ud800" * 12])
def test_bad_passwords(password: str) -> None:
    with pytest.raises(ValueError, match=r"characters|Unicode"):
        check_password(password)


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ("  hello \n", "hello"),
        ("one\r\ntwo", "one\ntwo"),
        ("  " + "x" * 500 + "  ", "x" * 500),
        ("👋" * 500, "👋" * 500),
        ("\U000b6bf8", "\U000b6bf8"),
        ("שלום עולם", "שלום עולם"),
        ("'; DROP TABLE messages; --", "'; DROP TABLE messages; --"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    ],
)
def test_good_bodies(body: str, stored: str) -> None:
    assert clean_body(body) == stored


@pytest.mark.parametrize(
    "body",
    ["", " \n ", "\u200b\u2060", "x" * 501, "a\0b", "a\tb", "a\rb", "a\x85b", "a\x7fb", "a\ud800b"],
)
def test_bad_bodies(body: str) -> None:
    with pytest.raises(ValueError, match=r"Write something|characters|Unicode"):
        clean_body(body)
