"""The verbs. Each is a few lines: read the settings, call the module whose concern it is, print."""

import contextlib
import errno
import fcntl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import click
import docker
import requests
from rich.markup import escape

from ladder import (
    alerts,
    browser,
    certificates,
    door,
    faults,
    firewall,
    lock,
    logs,
    marks,
    promote,
    qps,
    rungs,
    stack,
    trust,
    views,
    wire,
)
from ladder import bench as benchmark
from ladder import doctor as examination
from ladder.console import err, note, out, step
from ladder.drills import campaign
from ladder.drills import drill as drills
from ladder.drills import record as records
from ladder.drills.promises import PROMISES
from ladder.engine import compose_command, explain
from ladder.errors import UserError
from ladder.nodes import stage_in_force, targets
from ladder.settings import ROOT, Settings, load
from ladder.stages import STAGES, stage_of

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
        _fail(str(error))
    except click.BadParameter as error:
        # Whoever says make knows the value's name, not the option's.
        name = error.param.envvar if error.param else None
        _fail(f"{name}: {error.message}" if name else error.format_message())
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except docker.errors.APIError as error:
        _fail(explain(" ".join(["make", *sys.argv[1:2]]), str(error.explanation or error)))
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        _fail(f"the Docker engine was asked and did not answer; is it well? Then the same command again.\n  {error}")
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        if error.errno in (errno.EACCES, errno.EPERM):
            what += f"; it belongs to somebody else, of an earlier sudo perhaps: sudo chown -R $USER {ROOT}"
        if error.errno == errno.ENOSPC:
            what += "; free some, for example: docker system prune"
        _fail(what)
    except (KeyboardInterrupt, click.Abort):
        err.print("\nladder: interrupted; nothing is lost, the same command goes on where it stopped")
        sys.exit(130)


def _fail(said: str) -> NoReturn:
    err.print(f"[bold red]ladder:[/] {escape(said)}", markup=True)
    sys.exit(1)


@contextlib.contextmanager
def alone() -> Iterator[Settings]:
    """One command at a time changes a stack. Gives the settings as the last one left them: `scale` writes some."""
    with load().scratch("lock").open("a+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            held.seek(0)
            raise UserError(f"`{held.read().strip()}` is at work on this stack; wait for it to end") from error
        held.truncate(0)
        held.write(" ".join(["make", *sys.argv[1:2]]))
        held.flush()
        yield load()


@cli.command()
@stage_argument
def up(stage: str) -> None:
    """Bring a stage up."""
    wanted = stage_of(stage)
    with alone() as settings:
        stack.up(settings, wanted)
    out.print(f"\n[bold green]www.foobar.com is up[/], stage {wanted.number}, {wanted.title}")
    before, settings = settings, load()
    if door.secure(settings):
        trust = " and `make trust`" if not settings.tls_certificate else ""
        out.print(f"  [bold]{door.site(settings)}[/] by `make open`, or with `make hosts` in your hosts file{trust}\n")
    else:
        out.print(f"  [bold]{door.url(settings)}/[/]")
        out.print(f"  [bold]{door.site(settings)}[/] by `make open`, or with `make hosts` in your hosts file\n")
    if door.secure(before) and not door.secure(settings):
        out.print(
            "A browser that has met the site by HTTPS will not come by HTTP (HSTS). `make open` will; Chrome forgets "
            "at chrome://net-internals/#hsts, Firefox by History, Forget About This Site.\n"
        )
    if "grafana" in stage_in_force(settings).nodes:
        out.print(f"  [bold]http://127.0.0.1:{settings.grafana_port}/[/] has boards\n")
    out.print(views.ps(settings))
    out.print("\nTry next:")
    for line in wanted.try_next:
        out.print(f"  {line}", markup=False)


@cli.command()
def down() -> None:
    """Take the stack down and keep the data."""
    with alone() as settings:
        stack.down(settings)
    out.print("Down. Every message is kept for the next `make up`; `make wipe` would remove them.")


@cli.command()
@node_argument
def wipe(node: str) -> None:
    """Take the stack down and remove the data; with a node, that database loses its disk."""
    if node:
        _break(faults.Order("wipe", node))
        return
    with alone() as settings:
        stack.down(settings, wipe=True)
    out.print("Down, and the databases are removed: every account and message is gone. The next `make up` starts anew.")


@cli.command()
def doctor() -> None:
    """Check the machine; change nothing."""
    settings = load()
    findings = list(examination.examine(settings, STAGES[-1].without(*settings.left_out)))
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


@cli.command("logs")
@node_argument
@click.option("--follow", is_flag=True)
@click.option("--request", envvar="REQUEST", default="")
def logs_(node: str, follow: bool, request: str) -> None:
    """What the servers say; one request through all of them."""
    settings = load()
    if request:
        if node or follow:
            raise UserError("REQUEST=… is followed through all servers to its end: leave NODE and FOLLOW out")
        out.print(logs.follow(settings, request))
        return
    names = list(targets(settings, node)) if node else list(stage_in_force(settings).nodes)
    words = ["logs", "--no-log-prefix"] if len(names) == 1 else ["logs"]
    command = compose_command(*words, *(["--follow"] if follow else ["--tail", "200"]), *names)
    with contextlib.suppress(KeyboardInterrupt):
        subprocess.run(command, cwd=ROOT, env=settings.environment())


@cli.command()
def lb() -> None:
    """The balancer's servers."""
    out.print(views.lb(load()))


@cli.command()
def vip() -> None:
    """Which of two balancers holds the address, or which of two."""
    out.print(views.vip(load()))


@cli.command("wire")
@node_argument
def wire_(node: str) -> None:
    """What passes at a server, readable or not."""
    settings = load()
    container, *others = targets(settings, node).values()
    if others:
        raise UserError(f"{node} is several servers; one at a time: {', '.join(targets(settings, node))}")
    if container.status not in ("running", "paused"):
        raise UserError(f"{node} is {container.status}; nothing passes there. See: make ps")
    with contextlib.suppress(KeyboardInterrupt):
        wire.watch(settings, container, lambda line: out.print(line, markup=False, soft_wrap=True))


@cli.command()
@click.option("--renew", is_flag=True)
def certificate(renew: bool) -> None:
    """The site's certificate; a new one, while the site runs."""
    if renew:
        _break(faults.Order("renew"))
    out.print(views.certificate(load()))


@cli.command("trust")
@click.option("--undo", is_flag=True)
def trust_(undo: bool) -> None:
    """Have this machine trust our authority, where that is safe; say how elsewhere."""
    settings = load()
    if settings.tls_certificate and not undo:
        raise UserError("the site has your own certificate; whoever issued it is to be trusted, not our authority")
    if not undo:
        certificates.ensure_authority()
    elif not certificates.ROOT_CERTIFICATE.exists():
        raise UserError("there is no authority of ours here (secrets/ca.crt), whose end this could be")
    root = certificates.authority().certificate
    out.print(f"{trust.subject()}\n  {certificates.ROOT_CERTIFICATE}\n  SHA-256 {certificates.fingerprint(root)}")
    out.print("It can vouch for foobar.com and its subdomains, and for nothing else.\n")
    for line in trust.change(undo=undo):
        out.print(line, markup=False)
    for line in trust.by_hand(undo=undo):
        out.print(line, markup=False, soft_wrap=True)


@cli.command()
def replication() -> None:
    """The databases' roles and lag."""
    out.print(views.databases(load()))


@cli.command("qps")
def qps_() -> None:
    """Requests a second of every layer; live on a terminal, once elsewhere."""
    qps.show(load(), out)


@cli.command("alerts")
def alerts_() -> None:
    """What is wrong now, and what was told."""
    out.print(alerts.table(load()))


@cli.command("firewall")
@click.option("--watch", is_flag=True)
def firewall_(watch: bool) -> None:
    """The rules with their packets; drops as they happen."""
    settings = load()
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            firewall.watch(settings, lambda line: out.print(line, markup=False))
    else:
        out.print(firewall.table(settings))


@cli.command()
@click.option("--web", envvar="WEB", default="")
@click.option("--app", envvar="APP", default="")
def scale(web: str, app: str) -> None:
    """More or fewer servers of a tier."""
    _break(faults.Order("scale", " ".join(f"{name}={value}" for name, value in (("WEB", web), ("APP", app)) if value)))


def _break(order: faults.Order) -> None:
    with alone() as settings:
        for line in faults.carry_out(settings, order):
            out.print(line)


@cli.command("promote")
@node_argument
@click.option("--force", is_flag=True)
def promote_(node: str, force: bool) -> None:
    """Make a replica the primary."""
    begun = time.time()
    with alone() as settings:
        for line in promote.promote(settings, node, force=force):
            out.print(line, markup=False)
    marks.put(settings, " ".join(filter(None, ["promote", node])), begun)


def _fault_command(fault: faults.Fault) -> Callable[..., None]:
    def command(node: str, option: str = "") -> None:
        _break(faults.Order(fault.verb, node, option))

    command.__doc__ = f"Do it: {fault.form}."
    return click.argument("option", envvar=fault.option, default="")(command) if fault.option else command


for _fault in faults.FAULTS.values():
    if _fault.verb not in cli.commands:  # those that are more than a fault
        cli.command(_fault.verb)(node_argument(_fault_command(_fault)))


@cli.command()
@node_argument
def heal(node: str) -> None:
    """Undo every fault, or those of one node, and wait until all is well."""
    with alone() as settings:
        stage = stage_in_force(settings)
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
    stage_in_force(load())
    if not fault:
        raise UserError('which one? For example: make drill FAULT="kill web1"')
    plan = drills.plan(fault, seconds, reads, writes)
    with alone() as settings:
        stage = stage_in_force(settings)
        step(f"drill on stage {stage.number}, {stage.title}: {plan}")
        try:
            path = drills.conduct(settings, plan, note)
        except KeyboardInterrupt as error:
            healed = "what was broken is healed"
            if isinstance(error.__context__, KeyboardInterrupt):  # impatient: once more, while it healed
                healed = "not all that was broken is healed; go on: make heal"
            raise UserError(f"interrupted: there is no verdict; {healed}") from error
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
@stage_argument
@click.option("--runs", envvar="RUNS", default=1, type=click.IntRange(min=1))
def scoreboard(stage: str, runs: int) -> None:
    """Every drill on every stage or one, in a stack of its own, into docs/scoreboard.md."""
    campaign.run(runs, [stage_of(stage).number] if stage else list(PROMISES), step, note)


@cli.command()
def bench() -> None:
    """What each hop costs; from stage 3 on, what more application servers bring."""
    with alone() as settings:  # it scales where that can be done
        stage = stage_in_force(settings)
        step(f"stage {stage.number}, {stage.title}: pages a second, the front page from the database")
        for line in benchmark.run(settings, stage, note):
            out.print(line, markup=False)


@cli.command("lock")
def lock_() -> None:
    """Lock the Python packages again."""
    lock.relock(step)
