"""The life of a node: start read only, ask the peers, take the part that `decide` gives, go on.

The part is never final: the same question is asked every second, so that a node that waited
finds its place, a replica that fell out is filled again, and nothing needs a person that can
be proven. What the node is now stands in STATE for the health check and for people.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pymysql

from node import statements
from node.decide import Clone, Decision, Facts, Follow, Lead, Wait, decide, state_of
from node.peers import Peers
from node.server import EndedError, Server, Volume
from node.settings import MEND, Settings, SettingsError

STATE = Path("/run/mysqld/state")
ROUND_SECONDS = 1.0
UNDECIDED_SECONDS = 0.3
CONTEST_ROUNDS = 3  # a rival that decided on older news has shown itself by then
CLONE_SECONDS = 3600.0


@dataclass
class Controller:
    """Carries out decisions. Each step may be interrupted and is simply done again."""

    settings: Settings
    volume: Volume
    server: Server
    peers: Peers
    _said: str = ""
    _contested: int = 0

    def run(self) -> None:
        """Until mysqld ends (EndedError)."""
        if not self.volume.tidy():
            self._say("initialising", "an empty volume")
            self.server.initialise()
        self._say("starting", "read only")
        self.server.start()
        self._prepare()
        while True:
            decided = self.round()
            self.server.wait(lambda: False, ROUND_SECONDS if decided else UNDECIDED_SECONDS)

    def _prepare(self) -> None:
        """Accounts from the secret files, and the order that came with a copy."""
        order = self.volume.order
        todo = [*statements.accounts(self.settings.passwords)]
        if order is not None:
            todo += statements.forget_source()
        if order:
            todo += statements.follow(order)
        self.server.execute([*statements.let_administrator_write(), *todo, *statements.close_for_writing()])
        if order is not None:
            self.volume.order_done()

    def round(self) -> bool:
        """Ask, decide, act, say; whether the part is known. A step that fails is tried again."""
        me = self.peers.ask(self.settings.name, "127.0.0.1")
        if not isinstance(me, Facts):
            return self._say("waiting", f"for this node's own mysqld, which {state_of(me)}")
        decision = decide(me, self.peers.ask_all(self.settings.peers), self.settings.nodes)
        if isinstance(decision, Lead) and decision.contested and not me.writable:
            self._contested += 1
            if self._contested < CONTEST_ROUNDS:
                return self._say("waiting", "to see that no other node leads")
        self._contested = 0
        try:
            return self._act(me, decision)
        except pymysql.MySQLError as error:
            self.server.wait(lambda: False, 0)  # its end explains any error
            return self._say("waiting", f"a step failed: {_message(error)}")

    def _act(self, me: Facts, decision: Decision) -> bool:
        if isinstance(decision, Lead):
            return self._lead(me, decision)
        if me.writable or not me.locked:
            self._log("was opened for writing by hand, and is not the primary: closes again")
            self.server.execute(statements.close_for_writing())
        if isinstance(decision, Follow):
            return self._follow(me, decision)
        if isinstance(decision, Clone):
            return self._clone(decision)
        return self._wait(me, decision)

    def _lead(self, me: Facts, decision: Lead) -> bool:
        if not me.writable:
            self.server.execute(statements.open_for_writing(new=not me.has_schema))
        text = f"writable, from GTID {me.executed or 'none: a new site'}"
        return self._say("primary", f"{decision.warning}; {text}" if decision.warning else text)

    def _follow(self, me: Facts, decision: Follow) -> bool:
        source, trouble = decision.source, f" ({me.trouble})" if me.trouble else ""
        if me.source != source:
            self.server.execute(statements.follow(source))
        if me.source != source or not (me.receiving and me.applying):
            self.server.execute(statements.start_replica(self.settings.passwords["replication"]))
            me = replace(me, connected=False)
        if not me.connected:
            return self._say("waiting", f"for {source} to send its binary log{trouble}")
        return self._say("replica", f"of {source}{trouble}, from GTID {me.executed or 'none'}")

    def _clone(self, decision: Clone) -> bool:
        donor = decision.donor
        if decision.discards:
            count, what = len(decision.discards), decision.discards
            self._log(f"discards {count} transactions, GTID {what}: {decision.why}")
        self._say("cloning", f"all data of {donor}: {decision.why}")
        self.volume.tidy()
        self.server.execute(
            statements.clone(donor, self.settings.passwords["replication"], self.volume.clone),
            CLONE_SECONDS,
        )
        self._say("starting", f"on the copy of {donor}")
        self.server.restart_on_copy("" if decision.lead else donor)
        self.peers.forget(self.settings.name)
        self._prepare()
        return False

    def _wait(self, me: Facts, decision: Wait) -> bool:
        """Serve what is here, if it is a copy; what was received is still to be executed."""
        if me.source and not me.applying and not me.fault:
            self.server.execute(statements.start_applier())
        person = "; this needs a person" if decision.person else ""
        part = "replica" if me.source and me.has_schema else "waiting"
        return self._say(part, f"{decision.why}{person}")

    def _say(self, part: str, text: str) -> bool:
        """Write the state, and a log line when it changed other than in its GTIDs.

        True for the parts in which a node does its job.
        """
        line = f"{part}: {text}"
        STATE.parent.mkdir(mode=0o755, exist_ok=True)
        new = STATE.with_suffix(".new")
        new.write_text(line + "\n")
        new.rename(STATE)
        news = line.partition(" GTID ")[0]
        if news != self._said:
            self._said = news
            self._log(line)
        return part in {"primary", "replica"}

    def _log(self, text: str) -> None:
        log(self.settings.name, text)


def log(name: str, text: str) -> None:
    """One plain line."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    print(f"{now} {name}: {text}", file=sys.stderr, flush=True)


def _message(error: Exception) -> str:
    return " ".join(str(part) for part in error.args)


def main(env: dict[str, str], hostname: str) -> int:
    """Run the node; the exit status of the container."""
    try:
        settings = Settings.read(env, hostname, Path("/run/secrets"))
    except SettingsError as fault:
        log(hostname, f"cannot start: {fault}; {MEND}")
        return 1
    volume = Volume(Path("/var/lib/mysql"))
    server = Server(settings, volume)
    server.stop_on_signals()
    try:
        Controller(settings, volume, server, Peers(settings.passwords["monitoring"])).run()
    except EndedError as end:
        log(hostname, f"stopped: {end}")
        return end.status
    return 0
