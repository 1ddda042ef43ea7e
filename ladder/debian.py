"""What Debian's packages give where nothing else does; all that exists only for restricted networks is here.

- Without an image registry, base images are made from the Debian mirror that this machine's own apt is configured
  for, and imported under their usual names.
- On Debian or Ubuntu as root, a missing Compose v2 or Buildx is installed: from the system's own packages where they
  have it, else taken out of Debian's into ~/.docker/cli-plugins; packages and sources of the system stay as they are.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ladder.console import note
from ladder.errors import UserError

PLUGIN_SUITE = "sid"
PLUGIN_PACKAGES = {
    "docker-compose": ("docker-compose-plugin", "docker-compose-v2"),
    "docker-buildx": ("docker-buildx-plugin", "docker-buildx"),
}
"""A plugin's file name, and the packages that hold it in the archives of Docker and of Ubuntu."""


def is_debian_root() -> bool:
    """May we install packages here?"""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def mirror() -> str:
    """The address of the Debian mirror in this machine's apt configuration.

    Raises:
        UserError: there is none.
    """
    ask = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)", "Created-By: Packages"]
    for look_first in (False, True):
        if look_first:  # a new machine has sources, but has not asked them yet
            _run(["apt-get", "-qq", "update"])
        for line in _run(ask).splitlines():
            address, _, whose = line.partition(" ")
            if whose == "Debian Debian":
                return address
    raise UserError("apt knows no Debian mirror here, and there is no image registry: one of them is needed")


def prepare() -> None:
    """Have what base images are made with.

    Raises:
        UserError: this machine can't make them.
    """
    if not is_debian_root():
        raise UserError(
            "the base images can't be pulled (is there a network, a proxy to set?), and only Debian or Ubuntu as root "
            "can make them from packages. See why: docker pull debian:trixie-slim"
        )
    if shutil.which("mmdebstrap") is None:
        note("installing mmdebstrap")
        _apt_get("install", "--yes", "--no-install-recommends", "mmdebstrap")


def make_base_image(image: str) -> None:
    """Make a Debian base image, such as debian:trixie-slim, from packages; about 20 s."""
    suite = image.removeprefix("debian:").removesuffix("-slim")
    # The index of a frozen mirror's sid may be past its Valid-Until.
    build = ["mmdebstrap", "--variant=minbase", "--quiet", '--aptopt=Acquire::Check-Valid-Until "false"']
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "base.tar"
        _run([*build, suite, str(archive), mirror()])
        _run(["docker", "import", "--change", "CMD bash", str(archive), image])


def install_plugins(names: list[str]) -> None:
    """Install plugins of Docker's command line: docker-compose, docker-buildx."""
    for name in list(names):
        for package in PLUGIN_PACKAGES[name]:
            policy = _run(["apt-cache", "policy", package])
            if _is_ubuntu() and policy and "Candidate: (none)" not in policy:
                _apt_get("install", "--yes", package)
                names = [other for other in names if other != name]
                break
    if names:
        _take_out_of_packages(names)


def _is_ubuntu() -> bool:
    return "ID=ubuntu" in Path("/etc/os-release").read_text().split()


def _take_out_of_packages(names: list[str]) -> None:
    """Unpack Debian's packages of these names into the user's own plugin folder."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "lists/partial").mkdir(parents=True)
        (folder / "sources.list").write_text(f"deb {mirror()} {PLUGIN_SUITE} main\n")
        only_here: dict[str, object] = {
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": folder / "lists",
            "Dir::Cache": folder,
            "Acquire::Check-Valid-Until": "false",
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "APT::Sandbox::User": "root",
        }
        options = [word for key, value in only_here.items() for word in ("-o", f"{key}={value}")]
        _run(["apt-get", *options, "update"])
        _run(["apt-get", *options, "download", *names], cwd=folder)
        target = Path.home() / ".docker/cli-plugins"
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            archive = next(folder.glob(f"{name}_*.deb"))
            _run(["dpkg-deb", "-x", str(archive), str(folder / name)])
            found = next(path for path in (folder / name).rglob(name) if path.is_file() and os.access(path, os.X_OK))
            shutil.copy2(found, target / f"{name}.new")
            (target / f"{name}.new").replace(target / name)


def _apt_get(*words: str) -> None:
    _run(["apt-get", "-qq", "update"])
    _run(["apt-get", "-qq", *words], environment={"DEBIAN_FRONTEND": "noninteractive"})


def _run(command: list[str], *, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        last = "\n".join(f"  {line}" for line in (done.stdout + done.stderr).strip().splitlines()[-8:])
        raise UserError(f"`{' '.join(command[:2])}` failed:\n{last}")
    return done.stdout
