"""The site in a browser, with the name mapped and the machine left as it is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ladder import certificates, door
from ladder.errors import UserError
from ladder.settings import ROOT, Settings
from pki.certificates import NAMES

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "brave-browser", "microsoft-edge")
MAC_BROWSERS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)


def hosts_line(settings: Settings) -> str:
    """The line that gives the site its name on this machine."""
    return f"{settings.address} {' '.join(NAMES)}"


def command(browser: str, settings: Settings, *, root: bool) -> list[str]:
    """A Chromium-family browser with a profile of its own, in which the two names lead here."""
    rules = ", ".join(f"MAP {name} {settings.address}" for name in NAMES)
    # Each with a memory of its own: one that has met the site by HTTPS would never again come by HTTP (HSTS).
    secure = door.secure(settings)
    return [
        browser,
        f"--user-data-dir={ROOT / '.ladder/browser'}{'-https' if secure else ''}",
        f"--host-resolver-rules={rules}",
        # This one certificate needs no authority that the machine trusts; --test-type: and no banner that says so.
        *([f"--ignore-certificate-errors-spki-list={certificates.pin()}", "--test-type"] if secure else []),
        "--no-first-run",
        # Chromium refuses to run as root with its sandbox.
        *(["--no-sandbox"] if root else []),
        door.site(settings),
    ]


def open_site(settings: Settings) -> str:
    """Start the browser and return the address.

    Raises:
        UserError: there is no browser of that family, or no screen.
    """
    line = hosts_line(settings)
    instead = f"Give the site its name in your hosts file, then open {door.site(settings)} in any browser:\n  {line}"
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
    return door.site(settings)
