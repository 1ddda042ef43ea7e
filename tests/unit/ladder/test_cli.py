"""One command at a time, and what one that fails says: one sentence, the mend, exit code 1, no traceback."""

import errno
import fcntl
import sys
from dataclasses import replace
from pathlib import Path

import docker
import pytest
import requests

from ladder import cli, settings
from ladder.errors import UserError

VALUES = settings.check(settings.read(settings.DEFAULTS), "stage3")


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException) -> str:
    """What `make heal` prints that ends with this error."""

    def fails(**_options: object) -> None:
        raise error

    monkeypatch.setattr(cli, "cli", fails)
    monkeypatch.setattr(sys, "argv", ["ladder", "heal"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith("ladder: ")
    return " ".join(found.err.split())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("no [bold] stage is up"), "no [bold] stage is up"),
        (docker.errors.APIError("500", explanation="container is gone"), "`make heal` failed: container is gone"),
        (docker.errors.APIError("500", explanation="no space left on device"), "free some, for example: docker system"),
        (docker.errors.DockerException("broken pipe"), "did not answer; is it well? Then the same command again."),
        (requests.exceptions.ReadTimeout("read timed out"), "did not answer; is it well?"),
        (OSError(errno.ENOSPC, "No space left on device", ".env"), ".env: No space left on device; free some"),
        (PermissionError(errno.EACCES, "Permission denied", ".env"), "somebody else, of an earlier sudo perhaps: sudo"),
        (OSError("something else"), "something else"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_a_sentence_with_its_mend(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, words: str
) -> None:
    assert words in said(monkeypatch, capsys, error)


def test_a_wire_is_one_servers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "targets", lambda *_: {"web1": object(), "app1": object(), "db1": object()})
    with pytest.raises(UserError, match="server1 is several servers; one at a time: web1, app1, db1"):
        cli.cli(["wire", "server1"], standalone_mode=False)


def test_a_command_knows_what_the_one_before_it_has_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was begun while `scale` was at work, which writes the numbers last of all."""
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    lock = VALUES.scratch("lock")

    def load() -> settings.Settings:
        with lock.open("a+") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return replace(VALUES, app_servers=4)
            return VALUES

    monkeypatch.setattr(cli, "load", load)
    with cli.alone() as found:
        assert found.app_servers == 4


def test_a_second_command_is_told_whom_it_would_disturb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    monkeypatch.setattr(cli, "load", lambda: VALUES)
    monkeypatch.setattr(sys, "argv", ["ladder", "scale"])
    with cli.alone(), pytest.raises(UserError, match="`make scale` is at work on this stack"), cli.alone():
        pass
    with cli.alone():
        pass
