"""What the workbench prints: on a terminal in colour and as wide as it is, elsewhere plain and wide."""

import sys

from rich.console import Console

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def step(text: str) -> None:
    """Say what is being done now."""
    out.print(f"[bold cyan]==>[/] {text}")


def note(text: str) -> None:
    """Say a detail of the step."""
    out.print(f"    {text}", markup=False)
