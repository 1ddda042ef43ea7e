"""What a rung adds to the one before, from the rendered Compose files."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ladder.engine import compose
from ladder.settings import Settings
from ladder.stages import STAGES, Stage

Rendered = Mapping[str, Any]

QUIET = {
    *("profiles", "extends", "build", "image", "labels", "hostname", "command", "entrypoint"),
    *("cap_add", "cap_drop", "cpu_shares", "dns", "dns_opt", "extra_hosts", "healthcheck", "logging", "mem_limit"),
    *("pids_limit", "read_only", "security_opt", "tmpfs", "user", "volumes"),
}
"""Keys that say nothing of the wiring, or are the same for every server (compose/templates.yaml)."""
UNTOLD = {f"environment.{name}" for name in ("ROLE", "APP_SERVERS", "WEB_SERVERS", "WEB_SLOTS", "PAIR", "LB_REQUESTS")}
"""Nor do these, of a server that comes: what kind it is, how many others there are, what it has no use for yet."""


def render(settings: Settings, stage: Stage) -> Rendered:
    """A stage as Compose sees it, all values filled in."""
    rendered: Rendered = json.loads(compose(settings, "config", "--format", "json", profile=stage.profile))
    return rendered


def difference(settings: Settings, stage: Stage) -> list[str]:
    """The lines of `make diff`: what comes, what goes, what is wired otherwise."""
    if stage.number == 0:
        return ["Stage 0 is the first; there is nothing before it. See: make diff STAGE=1"]
    before = STAGES[stage.number - 1]
    old, new = render(settings, before), render(settings, stage)
    lines = [f"stage {before.number}, {before.title} → stage {stage.number}, {stage.title}", ""]
    for kind in ("services", "networks", "volumes", "secrets"):
        lines += list(_compare(kind, old.get(kind) or {}, new.get(kind) or {}))
    return lines


def _compare(kind: str, old: Rendered, new: Rendered) -> Iterator[str]:
    come = [name for name in new if name not in old]
    if kind == "services":
        yield from (f"+ {kind}.{name}{_described(new[name], new, old)}" for name in come)
    elif come:
        yield f"+ {kind}.{','.join(come)}"
    for name in old:
        if name not in new:
            yield f"- {kind}.{name}"
    changes: dict[str, list[str]] = {}
    for name in new:
        if name in old and old[name] != new[name]:
            was, now = dict(_flat(old[name])), dict(_flat(new[name]))
            for key in sorted(was.keys() | now.keys()):
                # Another driver of logs has other options; that it is another says enough.
                if was.get(key) != now.get(key) and not key.startswith("logging.options."):
                    changes.setdefault(f"{key}: {was.get(key, '–')} → {now.get(key, '–')}", []).append(name)
    for change, names in changes.items():
        every = len(names) > 1 and set(names) == set(old) & set(new)
        yield f"~ {kind}.{'*' if every else ','.join(names)}.{change}"


def _described(service: Rendered, siblings: Rendered, old: Rendered) -> str:
    """A new service in full, or as another instance of one that was there."""
    like = next((name for name in old if name in siblings and old[name].get("image") == service.get("image")), None)
    mine = dict(_told(service))
    theirs = dict(_told(siblings[like])) if like else {}
    # What every service has alike says nothing of this one.
    common = set.intersection(*({*_flat(dict(each))} for each in siblings.values()))
    shown = [
        f"\n      {key}: {value}"
        for key, value in mine.items()
        if value and theirs.get(key) != value and (key, value) not in common
    ]
    return (f"  like {like}, but" if like and shown else f"  like {like}" if like else "") + "".join(shown)


def _told(service: Rendered) -> Iterator[tuple[str, str]]:
    """What is worth saying of a service, as (path, text): networks in one line, and not what kind of server it is."""
    shown = {key: value for key, value in service.items() if key not in QUIET}
    networks = {name: (given or {}).get("ipv4_address", "") for name, given in shown.get("networks", {}).items()}
    shown["networks"] = [f"{name} {address}".strip() for name, address in networks.items()]
    yield from ((path, text) for path, text in _flat(shown) if path not in UNTOLD)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """A nested value as (path, text) pairs; a list of plain values is one text."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        yield path, " ".join(_plain(item) for item in value)
    else:
        yield path, _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        if "published" in value:
            return f"{value['host_ip']}:{value['published']}:{value['target']}/{value['protocol']}"
        return str(value.get("target") or value.get("source") or dict(value))
    return "" if value is None else str(value)
