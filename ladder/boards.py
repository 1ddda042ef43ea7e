"""The boards, from grafana/boards/, and whether there is a Grafana to show them.

Grafana is in no Debian: its maker's image is the only way to have it. Where that can't be pulled it is left out, and
all else works. The boards are written and checked all the same; their JSON may be imported into any Grafana.
"""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from ladder import images
from ladder.console import note
from ladder.errors import UserError
from ladder.settings import ROOT, Settings
from ladder.stages import Stage

FOLDER = ROOT / "grafana/json"
"""Where its image takes them from; written when they have changed."""
LEFT_OUT = "Grafana is left out: its image can't be pulled, and no package has it. The figures are in make qps"


def settle(settings: Settings, stage: Stage) -> Settings:
    """The settings with or without Grafana, as this machine can have it, and the boards written for it.

    Raises:
        UserError: a board is wrong; nothing was changed.
    """
    if not stage.monitored:
        return settings
    write()
    image = images.grafana_image()
    there = images.is_here(image) or images.pull(image)
    if not there:
        note(LEFT_OUT)
    return replace(settings, raw={**settings.raw, "GRAFANA_LEFT_OUT": "" if there else "without-"})


def write(folder: Path = FOLDER) -> None:
    """Write each board as JSON.

    Raises:
        UserError: one can't be built.
    """
    # In a process of its own: it reads the files as they are now, and the SDK takes its time to load.
    done = subprocess.run([sys.executable, "-m", "grafana.boards"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        places = re.findall(r'File ".*?(grafana/boards/\w+\.py", line \d+)', done.stderr)
        where = places[-1].replace('"', "") if places else "grafana/boards"
        why = done.stderr.strip().splitlines()[-1]
        raise UserError(f"the boards can't be built; nothing was changed: {where}: {why}")
    wanted = {f"{uid}.json": json.dumps(board, indent=1) + "\n" for uid, board in json.loads(done.stdout).items()}
    if wanted != {path.name: path.read_text() for path in folder.glob("*.json")}:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, text in wanted.items():
            (folder / name).write_text(text)


def check(settings: Settings) -> None:
    """Have promtool read every question of every board, in a container of no consequence. Once is enough.

    Raises:
        UserError: one is no PromQL; nothing was changed.
    """
    well = FOLDER / "checked"
    if well.exists():  # and since then nothing was written
        return
    asked = {path.stem: questions(path) for path in sorted(FOLDER.glob("*.json"))}
    groups = [
        {"name": board, "rules": [{"record": "question", "expr": each} for each in all_]}
        for board, all_ in asked.items()
    ]
    command = ["docker", "run", "--rm", "--interactive", "--network=none", "--cap-drop=ALL", "--read-only"]
    command += ["--entrypoint=promtool", f"{settings.project}/prometheus", "check", "rules", "--lint=none"]
    done = subprocess.run(command, input=json.dumps({"groups": groups}), capture_output=True, text=True)
    if done.returncode:
        found = re.findall(r'group "(\w+)", rule (\d+), .*?(could not parse.*)', done.stderr)
        said = [f"  {board} asks {asked[board][int(number) - 1]}: {why}" for board, number, why in found]
        what = "a board in grafana/boards/ asks what the collector can't read; nothing was changed:"
        raise UserError("\n".join([what, *(said or [done.stderr.strip()])]))
    well.touch()


def questions(path: Path) -> list[str]:
    """What a board asks the collector, marks included."""
    board = json.loads(path.read_text())
    targets = [target for panel in board["panels"] for target in panel.get("targets", [])]
    return [each["expr"] for each in (*targets, *board["annotations"]["list"])]
