"""What a node is told from outside: its name, DB_NODES, how writes are confirmed, and one secret file an account."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SCHEMA = "foobar"
PORT = 3306
ACCOUNTS = ("app", "migration", "replication", "monitoring")
MEND = "`make up` writes what is missing and starts the node again"
CHOICES = {"SEMI_SYNC": ("off", "on"), "DB_WITHOUT_REPLICA": ("go-on", "wait")}  # the default first

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


class SettingsError(Exception):
    """Everything that is missing or wrong, one sentence each."""


@dataclass(frozen=True)
class Settings:
    """Read once at start. Passwords never show up in a repr."""

    name: str
    nodes: tuple[str, ...]  # all nodes of the tier, this one too, in the order that breaks ties
    passwords: Mapping[str, str] = field(repr=False)  # by account
    semi_sync: bool = False  # a commit is confirmed by a replica
    waits: bool = False  # for as long as there is none, too

    @property
    def peers(self) -> tuple[str, ...]:
        """The other nodes."""
        return tuple(node for node in self.nodes if node != self.name)

    @property
    def server_id(self) -> int:
        """The ordinal in the name (db2: 2); for a name without one, a number made from it."""
        digits = re.search(r"[1-9][0-9]{0,8}$", self.name)
        return int(digits[0]) if digits else zlib.crc32(self.name.encode()) or 1

    @classmethod
    def read(cls, env: Mapping[str, str], hostname: str, secrets: Path) -> Settings:
        """Read and check everything; SettingsError names all faults at once."""
        faults: list[str] = []
        nodes = tuple(env.get("DB_NODES", "").split())
        if not nodes:
            faults.append('DB_NODES is not set: it lists the database nodes, as in "db1 db2"')
        faults += [f"DB_NODES: {n!r} is not a host name" for n in nodes if not _NAME.fullmatch(n)]
        if len(set(nodes)) != len(nodes):
            faults.append(f"DB_NODES names a node twice: {' '.join(nodes)}")
        if nodes and hostname not in nodes:
            faults.append(f"this node, {hostname}, is not in DB_NODES: {' '.join(nodes)}")
        for name, allowed in CHOICES.items():
            if env.get(name, allowed[0]) not in allowed:
                faults.append(f"{name} is {env[name]!r}; {' or '.join(allowed)} are known")
        passwords: dict[str, str] = {}
        for account in ACCOUNTS:
            try:
                passwords[account] = read_secret(secrets / f"mysql_{account}_password")
            except SettingsError as fault:
                faults.append(str(fault))
        if faults:
            raise SettingsError("; ".join(faults))
        semi_sync, waits = env.get("SEMI_SYNC") == "on", env.get("DB_WITHOUT_REPLICA") == "wait"
        return cls(hostname, nodes, passwords, semi_sync, waits)


def read_secret(file: Path) -> str:
    """The one line of a secret file; SettingsError, naming the file, when it is not just that."""
    try:
        text = file.read_bytes().decode()
    except FileNotFoundError:
        raise SettingsError(f"secret {file} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"secret {file} cannot be read: {type(error).__name__}") from None
    lines = text.splitlines()
    if not text.strip():
        raise SettingsError(f"secret {file} is empty")
    if len(lines) != 1 or not text.rstrip("\n").isprintable():
        raise SettingsError(f"secret {file} must be one line of printable characters")
    return lines[0]
