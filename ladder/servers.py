"""How many web and application servers stage 3 has: kept in .env, and in a Compose file of those beyond the first.

compose.yaml takes that file in place of compose/more.yaml, so that plain `docker compose` knows them all as well.
"""

from dataclasses import replace

from ladder.settings import ROOT, Settings
from ladder.stages import Stage

TIERS = ("web", "app")
"""What grows."""
USUAL = 2
"""Of each, where nobody has asked for more or fewer, and on every stage below; those are in compose/."""


def counted(settings: Settings, web: int, app: int) -> Settings:
    """The settings with so many servers, and the file that Compose is to take, written."""
    more = ""
    if (web, app) != (USUAL, USUAL):
        path = settings.scratch("more.yaml")
        path.write_text(text({"web": web, "app": app}), encoding="utf-8")
        more = str(path.relative_to(ROOT))
    raw = {**settings.raw, "WEB_SERVERS": str(web), "APP_SERVERS": str(app), "MORE_SERVERS": more}
    return replace(settings, web_servers=web, app_servers=app, raw=raw)


def settle(settings: Settings, stage: Stage) -> Settings:
    """The settings for a stage: below the one whose tiers are apart there are as many servers as it has."""
    return counted(settings, *((settings.web_servers, settings.app_servers) if stage.apart else (USUAL, USUAL)))


def text(servers: dict[str, int]) -> str:
    """A file like compose/more.yaml; paths are taken from there."""
    lines = ["# Written by `make scale`, in place of compose/more.yaml.", "services:"]
    for tier, count in servers.items():
        for number in range(2, count + 1):
            lines += [f"  {tier}{number}:", "    profiles: [stage3]"]
            if number > USUAL:
                lines += [
                    f"    extends: {{file: templates.yaml, service: {tier}}}",
                    f"    hostname: {tier}{number}",
                ]
    return "\n".join(lines if len(lines) > 2 else [lines[0], "services: {}"]) + "\n"
