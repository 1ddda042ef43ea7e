"""The locks of the Python packages: every requirements.in with its exact versions and hashes."""

import subprocess
from collections.abc import Callable

from ladder.errors import UserError
from ladder.settings import ROOT

OLDEST_PYTHON = "3.11"
FOLDERS = ("app", "ladder", "tests", "tests/sslyze")
"""In this order: the tests run the application with the versions that its image has."""


def command(folder: str) -> list[str]:
    """The uv command that locks a folder's requirements.in for every platform."""
    return [
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--upgrade",
        "--generate-hashes",
        "--no-header",
        "--no-emit-index-url",
        "--no-emit-find-links",
        f"--python-version={OLDEST_PYTHON}",
        *([f"--constraint={other}/requirements.txt" for other in FOLDERS[:2]] if folder == "tests" else []),
        f"--output-file={folder}/requirements.txt",
        f"{folder}/requirements.in",
    ]


def relock(say: Callable[[str], None]) -> None:
    """Write every requirements.txt anew.

    Raises:
        UserError: uv is missing, or found no set of versions that fits.
    """
    for folder in FOLDERS:
        say(f"{folder}/requirements.txt")
        try:
            subprocess.run(command(folder), cwd=ROOT, check=True)
        except FileNotFoundError as error:
            raise UserError("uv is missing; install it, for example: pipx install uv") from error
        except subprocess.CalledProcessError as error:
            raise UserError(f"{folder}/requirements.in could not be locked; see uv's message above") from error
