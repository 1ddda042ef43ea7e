"""The verbs. Each is a few lines: read the settings, call the module whose concern it is, print."""

import contextlib
import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from ladder import bench as benchmark
from ladder import browser, faults, firewall, lock, rungs, stack, views
from ladder import doctor as examination
from ladder.console import err, note, out, step
from ladder.drills import campaign
from ladder.drills import drill as drills
from ladder.drills import record as records
from ladder.engine import compose_command
from ladder.errors import UserError
from ladder.nodes import stage_in_force, targets
from ladder.settings import ROOT, Settings, load
from ladder.stages import stage_of

stage_argument = click.argument("stage", envvar="STAGE", default="")
node_argument = click.argument("node", envvar="NODE", default="")


@click.group()
def cli() -> None:
    """www.foobar.com, live: the workbench behind make."""


def main() -> None:
    """Run a verb; a user's mistake ends in a sentence and exit code 1, never in a traceback."""
    try:
        cli(standalone_mode=False)
    except UserError as error:
        err.print(f"[bold red]ladder:[/] {error}", markup=True)
        sys.exit(1)
    except click.BadParameter as error:
        # Whoever says make knows the value's name, not the option's.
        name = error.param.envvar if error.param else None
        err.print(
            f"[bold red]ladder:[/] {name}: {error.message}" if name else error.format_message(), markup=bool(name)
        )
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        err.print("\nladder: interrupted; nothing is lost, the same command goes on where it stopped")
        sys.exit(130)


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """One command at a time changes a stack."""
    with settings.scratch("lock").open("a+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            held.seek(0)
            raise UserError(f"`{held.read().strip()}` is at work on this stack; wait for it to end") from error
        held.truncate(0)
        held.write(" ".join(["make", *sys.argv[1:2]]))
        held.flush()
        yield


@cli.command()
@stage_argument
def up(stage: str) -> None:
    """Bring a stage up."""
    wanted = stage_of(stage)
    settings = load()
    with alone(settings):
        stack.up(settings, wanted)
    out.print(f"\n[bold green]www.foobar.com is up[/], stage {wanted.number}, {wanted.title}")
    out.print(f"  [bold]{settings.url}/[/]")
    out.print(f"  [bold]{browser.site(settings)}[/] by `make open`, or with `make hosts` in your hosts file\n")
    out.print(views.ps(load()))
    out.print("\nTry next:")
    for line in wanted.try_next:
        out.print(f"  {line}", markup=False)


@cli.command()
def down() -> None:
    """Take the stack down and keep the data."""
    settings = load()
    with alone(settings):
        stack.down(settings)
    out.print("Down. Every message is kept for the next `make up`; `make wipe` would remove them.")


@cli.command()
@node_argument
def wipe(node: str) -> None:
    """Take the stack down and remove the data; with a node, that database loses its disk."""
    if node:
        _break(faults.Order("wipe", node))
        return
    settings = load()
    with alone(settings):
        stack.down(settings, wipe=True)
    out.print("Down, and the databases are removed: every account and message is gone. The next `make up` starts anew.")


@cli.command()
def doctor() -> None:
    """Check the machine; change nothing."""
    findings = list(examination.examine(load()))
    for finding in findings:
        out.print(
            ("[green]ok [/]" if finding.ok else "[red]no [/]")
            + f" {finding.what}"
            + (f": {finding.mend}" if not finding.ok else "")
        )
    if not all(finding.ok for finding in findings):
        raise UserError("this machine is not ready; mend what is marked, then: make up STAGE=1")


@cli.command()
@stage_argument
def diff(stage: str) -> None:
    """What a stage adds to the one before."""
    for line in rungs.difference(load(), stage_of(stage)):
        style = {"+": "green", "-": "red", "~": "yellow"}.get(line[:1], "")
        out.print(line, style=style, markup=False)


@cli.command()
def hosts() -> None:
    """The line for the hosts file."""
    out.print("# into /etc/hosts (Windows: C:\\Windows\\System32\\drivers\\etc\\hosts)", markup=False)
    out.print(browser.hosts_line(load()))


@cli.command("open")
def open_() -> None:
    """The site in a browser."""
    out.print(f"{browser.open_site(load())} is opening, with the name mapped in this browser alone.")


@cli.command()
def ps() -> None:
    """Nodes, servers, zones, roles, health."""
    out.print(views.ps(load()))


@cli.command()
@node_argument
@click.option("--follow", is_flag=True)
def logs(node: str, follow: bool) -> None:
    """What the servers say."""
    settings = load()
    names = list(targets(settings, node)) if node else list(stage_in_force(settings).nodes)
    words = ["logs", "--no-log-prefix"] if len(names) == 1 else ["logs"]
    command = compose_command(*words, *(["--follow"] if follow else ["--tail", "200"]), *names)
    subprocess.run(command, cwd=ROOT, env=settings.environment())


@cli.command()
def lb() -> None:
    """The balancer's servers."""
    out.print(views.lb(load()))


@cli.command()
def replication() -> None:
    """The databases' roles and lag."""
    out.print(views.databases(load()))


@cli.command("firewall")
@click.option("--watch", is_flag=True)
@click.option("--load", "new", is_flag=True)
def firewall_(watch: bool, new: bool) -> None:
    """The rules with their packets; drops as they happen; the rules of this checkout."""
    settings = load()
    if new:
        with alone(settings):
            for line in firewall.load(settings):
                out.print(line)
    elif watch:
        with contextlib.suppress(KeyboardInterrupt):
            firewall.watch(settings, lambda line: out.print(line, markup=False))
    else:
        out.print(firewall.table(settings))


def _break(order: faults.Order) -> None:
    settings = load()
    with alone(settings):
        for line in faults.carry_out(settings, order):
            out.print(line)


def _fault_command(fault: faults.Fault) -> Callable[..., None]:
    def command(node: str, option: str = "") -> None:
        _break(faults.Order(fault.verb, node, option))

    command.__doc__ = f"Do it: {fault.form}."
    return click.argument("option", envvar=fault.option, default="")(command) if fault.option else command


for _fault in faults.FAULTS.values():
    if _fault.verb not in cli.commands:  # wipe
        cli.command(_fault.verb)(node_argument(_fault_command(_fault)))


@cli.command()
@node_argument
def heal(node: str) -> None:
    """Undo every fault, or those of one node, and wait until all is well."""
    settings = load()
    stage = stage_in_force(settings)
    with alone(settings):
        for line in faults.heal(settings, stage, *filter(None, [node])) or ["nothing was broken"]:
            out.print(line)
        if not node:
            stack.wait_for(settings, stage)
            out.print("all is well")


@cli.command()
@click.argument("fault", envvar="FAULT", default="")
@click.option("--seconds", envvar="SECONDS", default=drills.SECONDS)
@click.option("--reads", envvar="READS", default=drills.READS)
@click.option("--writes", envvar="WRITES", default=drills.WRITES)
def drill(fault: str, seconds: float, reads: float, writes: float) -> None:
    """Steady visitors, a fault, its healing, and a verdict."""
    settings = load()
    stage = stage_in_force(settings)
    if not fault:
        raise UserError('which one? For example: make drill FAULT="kill web1"')
    plan = drills.plan(fault, seconds, reads, writes)
    with alone(settings):
        step(f"drill on stage {stage.number}, {stage.title}: {plan}")
        try:
            path = drills.conduct(settings, plan, note)
        except KeyboardInterrupt as error:
            raise UserError("interrupted: there is no verdict; what was broken is healed") from error
    _report(path)


@cli.command()
@click.argument("record", envvar="RECORD", default="")
def check(record: str) -> None:
    """The verdict of a drill's record, again."""
    if not record:
        raise UserError("which one? Say RECORD=…; records of drills are in .ladder/drills/")
    _report(Path(record))


def _report(path: Path) -> None:
    try:
        for line in drills.report(records.load(path)):
            out.print(line, markup=False)
    finally:
        out.print(f"record:  {path}\npicture: {drills.draw(path)}", markup=False)


@cli.command()
@click.option("--runs", envvar="RUNS", default=1)
def scoreboard(runs: int) -> None:
    """Every drill on every stage, in a stack of its own, into docs/scoreboard.md."""
    campaign.run(runs, step, note)


@cli.command()
def bench() -> None:
    """What each hop costs."""
    settings = load()
    stage = stage_in_force(settings)
    step(f"stage {stage.number}, {stage.title}: pages a second, the front page from the database")
    for line in benchmark.run(settings, stage, note):
        out.print(line, markup=False)


@cli.command("lock")
def lock_() -> None:
    """Lock the Python packages again."""
    lock.relock(step)
