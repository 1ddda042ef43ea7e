"""What Debian's packages give where nothing else does; all that exists only for restricted networks is here.

- Without an image registry, base images are made from the Debian mirror that this machine's own apt is configured
  for, and imported under their usual names. So are the makers' images of the monitoring: Debian's builds of the same
  programs, alone, where the makers put theirs.
- On Debian or Ubuntu as root, a missing Compose v2 or Buildx is installed: from the system's own packages where they
  have it, else taken out of Debian's into ~/.docker/cli-plugins; packages and sources of the system stay as they are.
"""

import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ladder.console import note
from ladder.errors import UserError

SUITE = "sid"
PLUGIN_PACKAGES = {
    "docker-compose": ("docker-compose-plugin", "docker-compose-v2"),
    "docker-buildx": ("docker-buildx-plugin", "docker-buildx"),
}
"""A plugin's file name, and the packages that hold it in the archives of Docker and of Ubuntu."""
PROGRAMS = {
    "prom/prometheus": {
        "/bin/prometheus": ("prometheus", "bin/prometheus"),
        "/bin/promtool": ("promtool", "bin/promtool"),
    },
    "prom/alertmanager": {
        "/bin/alertmanager": ("prometheus-alertmanager", "bin/prometheus-alertmanager"),
        "/bin/amtool": ("prometheus-alertmanager", "bin/amtool"),
        "/bin/default.tmpl": ("prometheus-alertmanager", "share/prometheus/alertmanager/default.tmpl"),
        "/bin/email.tmpl": ("prometheus-alertmanager", "share/prometheus/alertmanager/email.tmpl"),
    },
    "prom/blackbox-exporter": {
        "/bin/blackbox_exporter": ("prometheus-blackbox-exporter", "bin/prometheus-blackbox-exporter"),
    },
    "prom/mysqld-exporter": {
        "/bin/mysqld_exporter": ("prometheus-mysqld-exporter", "bin/prometheus-mysqld-exporter"),
    },
    "prom/node-exporter": {"/bin/node_exporter": ("prometheus-node-exporter", "bin/prometheus-node-exporter")},
    "nginx/nginx-prometheus-exporter": {
        "/usr/bin/nginx-prometheus-exporter": ("prometheus-nginx-exporter", "bin/prometheus-nginx-exporter"),
    },
}
"""A maker's image: where it has its programs; the package that holds the same, and where below /usr."""


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


def make_images(images: list[str]) -> None:
    """Make base images and makers' images from packages; about 30 s for all.

    Raises:
        UserError: no package is known for one of them.
    """
    bases = [image for image in images if image.startswith("debian:")]
    makers = [image for image in images if image not in bases]
    with ThreadPoolExecutor() as pool:
        made = [pool.submit(make_base_image, image) for image in bases] + [pool.submit(make_program_images, makers)]
        for one in made:
            one.result()


def make_program_images(images: list[str]) -> None:
    """Make makers' images, such as prom/prometheus:v3.5.3, with nothing but the programs; about 10 s for all.

    They want a C library, unlike the makers' own, but none newer than Debian stable's.

    Raises:
        UserError: no package is known that has the program.
    """
    programs = {image: PROGRAMS.get(image.partition(":")[0], {}) for image in images}
    if unknown := [image for image, found in programs.items() if not found]:
        raise UserError(f"{', '.join(unknown)} can't be pulled, and no package is known that has the same program")
    packages = sorted({package for found in programs.values() for package, _ in found.values()})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        where = dict(_unpacked(packages, folder)) if packages else {}
        for number, (image, found) in enumerate(programs.items()):
            root = folder / f"root{number}"
            for place, (package, held) in found.items():
                target = root / place.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(where[package] / "usr" / held, target)
            archive = folder / "image.tar"
            _run(["tar", "--create", "--file", str(archive), "--directory", str(root), "."])
            _run(["docker", "import", str(archive), image])


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
        target = Path.home() / ".docker/cli-plugins"
        target.mkdir(parents=True, exist_ok=True)
        for name, unpacked in _unpacked(names, Path(scratch)):
            found = next(path for path in unpacked.rglob(name) if path.is_file() and os.access(path, os.X_OK))
            shutil.copy2(found, target / f"{name}.new")
            (target / f"{name}.new").replace(target / name)


def _unpacked(packages: list[str], folder: Path) -> list[tuple[str, Path]]:
    """Packages of SUITE, unpacked below a folder: (name, where). The system's packages and sources stay as they are."""
    (folder / "lists/partial").mkdir(parents=True)
    (folder / "sources.list").write_text(f"deb {mirror()} {SUITE} main\n")
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
    _run(["apt-get", *options, "download", *packages], cwd=folder)
    for package in packages:
        _run(["dpkg-deb", "-x", str(next(folder.glob(f"{package}_*.deb"))), str(folder / package)])
    return [(package, folder / package) for package in packages]


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
