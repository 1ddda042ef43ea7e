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
    *("cap_add", "cap_drop", "dns", "dns_opt", "healthcheck", "logging", "mem_limit", "pids_limit"),
    *("read_only", "security_opt", "tmpfs", "user"),
}
"""Keys that say nothing of the wiring, or are the same for every server (compose/templates.yaml)."""


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
    for name in new:
        if name not in old:
            yield f"+ {kind}.{name}{_described(kind, new[name], new, old)}"
    for name in old:
        if name not in new:
            yield f"- {kind}.{name}"
    changes: dict[str, list[str]] = {}
    for name in new:
        if name in old and old[name] != new[name]:
            was, now = dict(_flat(old[name])), dict(_flat(new[name]))
            for key in sorted(was.keys() | now.keys()):
                if was.get(key) != now.get(key):
                    changes.setdefault(f"{key}: {was.get(key, '–')} → {now.get(key, '–')}", []).append(name)
    for change, names in changes.items():
        every = len(names) > 1 and set(names) == set(old) & set(new)
        yield f"~ {kind}.{'*' if every else ','.join(names)}.{change}"


def _described(kind: str, service: Rendered, siblings: Rendered, old: Rendered) -> str:
    """A new service in full, or as another instance of one that was there."""
    if kind != "services":
        return ""
    like = next((name for name in old if name in siblings and old[name].get("image") == service.get("image")), None)
    mine = dict(_flat({k: v for k, v in service.items() if k not in QUIET}))
    theirs = dict(_flat({k: v for k, v in siblings[like].items() if k not in QUIET})) if like else {}
    # What every service has alike says nothing of this one.
    common = set.intersection(*({*_flat(dict(each))} for each in siblings.values()))
    shown = [
        f"\n      {key}: {value}"
        for key, value in mine.items()
        if theirs.get(key) != value and (key, value) not in common
    ]
    return (f"  like {like}, but" if like and shown else f"  like {like}" if like else "") + "".join(shown)


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
