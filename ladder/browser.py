"""The site in a browser, with the name mapped and the machine left as it is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ladder.errors import UserError
from ladder.settings import ROOT, Settings

NAMES = ("www.foobar.com", "foobar.com")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "brave-browser", "microsoft-edge")
MAC_BROWSERS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)


def hosts_line(settings: Settings) -> str:
    """The line that gives the site its name on this machine."""
    return f"{settings.address} {' '.join(NAMES)}"


def site(settings: Settings) -> str:
    """The address that a visitor types."""
    return "http://www.foobar.com" + ("" if settings.http_port == 80 else f":{settings.http_port}") + "/"


def command(browser: str, settings: Settings, *, root: bool) -> list[str]:
    """A Chromium-family browser with a profile of its own, in which the two names lead here."""
    rules = ", ".join(f"MAP {name} {settings.address}" for name in NAMES)
    return [
        browser,
        f"--user-data-dir={ROOT / '.ladder/browser'}",
        f"--host-resolver-rules={rules}",
        "--no-first-run",
        # Chromium refuses to run as root with its sandbox.
        *(["--no-sandbox"] if root else []),
        site(settings),
    ]


def open_site(settings: Settings) -> str:
    """Start the browser and return the address.

    Raises:
        UserError: there is no browser of that family, or no screen.
    """
    line = hosts_line(settings)
    instead = f"Open {settings.url}/ in any browser, or give it its name in your hosts file:\n  {line}"
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    found = found or next((path for path in MAC_BROWSERS if Path(path).exists()), None)
    if found is None:
        raise UserError(f"no Chromium, Chrome, Brave or Edge was found, which can map a name by themselves. {instead}")
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError(f"there is no screen here. {instead}")
    subprocess.Popen(
        command(found, settings, root=hasattr(os, "geteuid") and os.geteuid() == 0),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return site(settings)
