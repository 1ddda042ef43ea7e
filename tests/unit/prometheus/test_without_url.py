"""What a server says of a receiver, without the receiver's URL: whole, or as the receiver repeats it."""

import subprocess
from pathlib import Path

import pytest

from ladder.settings import ROOT

URL = "https://hooks.example.com/services/T0/se.cret|*?x=[1]"


@pytest.mark.parametrize(
    ("url", "said", "shown"),
    [
        (URL, f"Post {URL}: refused", "Post the webhook: refused"),
        (URL, f"404: Cannot POST {URL.removeprefix('https://hooks.example.com')}", "404: Cannot POST …"),
        (URL, "404: Cannot POST /services/T0/se.cret|*", "404: Cannot POST …"),
        ("https://h.example.com/a?token=secret", "/a/b: no such token=secret", "/a/b: no such …"),
        (URL, "level=info file=/etc/services", "level=info file=/etc/services"),
        ("https://example.com/", "https://example.com/ has a/b", "the webhook has a/b"),
        ("https://example.com", "https://example.com has a/b", "the webhook has a/b"),
    ],
)
def test_neither_the_url_nor_its_path_is_said(tmp_path: Path, url: str, said: str, shown: str) -> None:
    (tmp_path / "url").write_text(url)
    command = ["sh", str(ROOT / "prometheus/without-url"), str(tmp_path / "url"), "the webhook"]
    assert subprocess.run(command, input=f"{said}\n", capture_output=True, text=True, check=True).stdout == f"{shown}\n"
