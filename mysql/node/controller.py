"""The life of a node: start read only, ask the peers, take the part that `decide` gives, go on.

The part is never final: the same question is asked every second, so that a node that waited
finds its place, a replica that fell out is filled again, and nothing needs a person that can
be proven. What the node is now stands in STATE for the health check and for people.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pymysql

from node import statements
from node.confirmed import Confirmation
from node.decide import Clone, Decision, Facts, Follow, Lead, Peer, Wait, decide, state_of
from node.gtid import GtidSet
from node.orders import Order, Orders
from node.peers import Peers
from node.server import EndedError, Server, Volume
from node.settings import MEND, Settings, SettingsError

STATE = Path("/run/mysqld/state")
ROUND_SECONDS = 1.0
UNDECIDED_SECONDS = 0.3
ORDERED_SECONDS = 0.05  # the site's writers wait for it
OWN_END_SECONDS = 0.35  # a transaction takes milliseconds; the list of them is made anew after 0.1 s
KEEP_AGAIN_SECONDS = 60.0
CONTEST_ROUNDS = 3  # a rival that decided on older news has shown itself by then
CLONE_SECONDS = 3600.0


@dataclass
class Controller:
    """Carries out decisions. Each step may be interrupted and is simply done again."""

    settings: Settings
    volume: Volume
    server: Server
    peers: Peers
    orders: Orders
    confirmation: Confirmation
    stood: Order | None = None  # the order that stood when this node was started
    _said: str = ""
    _contested: int = 0
    _kept: tuple[GtidSet, Path] | None = None  # what is thrown away next, and where it is kept
    _unkept: tuple[GtidSet, float] | None = None  # what could not be kept, and when it is tried again
    _owed: GtidSet | None = None  # what the source had when this node, since its start, first was connected to it

    def run(self) -> None:
        """Until mysqld ends (EndedError)."""
        if self.volume.tidy():
            self.orders.note_behind(True)  # mysqld throws it away as it starts
        else:
            self._say("initialising", "an empty volume")
            self.server.initialise()
        self._say("starting", "read only")
        self.server.start()
        self._prepare()
        self.stood = self.orders.read()
        if self.settings.semi_sync and not self.settings.waits:
            self.confirmation.watch()
        while True:
            decided = self.round()
            if self.orders.given:
                self.server.wait(lambda: False, ORDERED_SECONDS)
            else:
                self.server.wait(lambda: self.orders.given, ROUND_SECONDS if decided else UNDECIDED_SECONDS)

    def _prepare(self) -> None:
        """Accounts from the secret files, whose statements are kept, and the order that came with a copy."""
        order = self.volume.order
        todo = [
            *statements.promotions(),
            *statements.accounts(self.settings.passwords),
            *statements.remember_the_application(),
        ]
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
        try:
            if self.orders.given:
                return self._obey(me)
        except pymysql.MySQLError as error:
            return self._failed(error)
        peers = self.peers.ask_all(self.settings.peers)
        if self.orders.given:  # while they were asked: what they said counts no more
            return False
        decision = decide(me, peers, self.settings.nodes)
        if isinstance(decision, Lead) and decision.contested and not me.writable:
            self._contested += 1
            if self._contested < CONTEST_ROUNDS:
                return self._say("waiting", "to see that no other node leads")
        self._contested = 0
        try:
            return self._act(me, decision, peers)
        except pymysql.MySQLError as error:
            return self._failed(error)

    def _failed(self, error: pymysql.MySQLError) -> bool:
        self.server.wait(lambda: False, 0)  # its end explains any error
        return self._say("waiting", f"a step failed: {_message(error)}")

    def _obey(self, me: Facts) -> bool:
        """Do what a person ordered, whatever the peers say."""
        order = self.orders.read()
        if order is None:
            return self._say("waiting", "its order cannot be read; this needs a person")
        if order.leader == self.settings.name:
            return self._take_over(me, order)
        self._say("waiting", f"ordered to follow {order.leader}, promotion {order.term}: closes for writing")
        self._close()
        final = self.peers.ask(self.settings.name, "127.0.0.1")
        if not isinstance(final, Facts):
            return False
        self.orders.answer(order, final.executed)
        if me.source != order.leader:
            self.server.execute(statements.follow(order.leader))
        self.server.execute(statements.start_replica(self.settings.passwords["replication"]))
        self._stop_waiting()
        self.orders.done(order)
        return False

    def _close(self) -> None:
        """Accept no write any more, and let none be under way; what waits for a replica in vain is cut short."""
        try:
            self.server.execute([*statements.be_quick(), *statements.close_for_writing()])
        except pymysql.MySQLError:
            # Whoever waits must not be told that all is well: only this node has it.
            self.server.disconnect(statements.WRITERS)
            if self.settings.semi_sync:
                self.confirmation.note()  # until it is closed, somebody may come back and write here alone
            self._stop_waiting()
            self.server.execute(statements.close_for_writing())
        # Who comes to its COMMIT by itself is told that nothing was stored, and does it again elsewhere.
        self.server.disconnect(statements.IN_TRANSACTION, after=OWN_END_SECONDS)

    def _stop_waiting(self) -> None:
        """A replica waits for no other. This takes MySQL a second."""
        if self.settings.semi_sync:
            self.server.execute(statements.wait_for_nobody())

    def _take_over(self, me: Facts, order: Order) -> bool:
        """Lead, once everything that was received is executed, and everything that the order asks for is here.

        Unless another was promoted since: who gave this order may have gone back on it while this node was dead. The
        peers are not asked of one that was given to a live node: a primary that has just closed answers after a second.
        """
        peers = self.peers.ask_all(self.settings.peers) if order == self.stood else []
        last = [p.term + p.writable for p in peers if isinstance(p, Facts)]  # by the same number: that one came first
        if max([me.term, *last]) > order.term:
            self.orders.done(order)
            return self._say("waiting", f"drops its order, promotion {order.term}: another was promoted since")
        missing = order.after - me.executed
        if me.source and missing and not me.receiving:
            self.server.execute(statements.start_replica(self.settings.passwords["replication"]))
        elif me.source and not me.applying:
            self.server.execute(statements.start_applier())
        if missing and me.drained and self.orders.rescue.exists():
            self._rescue()
            return self._say("waiting", "to see whether it has everything now")
        if missing or not me.drained:
            count = len((order.after | me.received) - me.executed)
            return self._say("waiting", f"for {count} transactions, then leads by order, promotion {order.term}")
        if me.writable:  # it was to close, and has not yet: to open lets commits go that wait
            self.confirmation.note()
        promotion = statements.promotion(self.settings.name, order.term)
        self.server.execute(statements.open_for_writing(promotion=promotion, semi_sync=self.settings.semi_sync))
        self.orders.note_behind(False)
        self.orders.answer(order, me.executed)
        # Last, for a receiver that tries to reach a source which is cut off stops after seconds only.
        self.server.execute(statements.forget_source())
        self.orders.done(order)
        return self._say("primary", f"by order, promotion {order.term}; writable, from GTID {me.executed}")

    def _rescue(self) -> None:
        """Execute what the former primary could not send any more."""
        self.server.execute([*statements.stop_replica(), *statements.let_administrator_write()])
        done = self.server.feed(self.orders.rescue)
        self.orders.rescue.unlink(missing_ok=True)  # or the order was withdrawn meanwhile
        self._log("executed what was brought over" if done else "could not execute all that was brought over")

    def _act(self, me: Facts, decision: Decision, peers: Sequence[Peer]) -> bool:
        if isinstance(decision, Lead):
            return self._lead(me, decision, peers)
        if me.writable and me.source is None:
            self._log("was the primary, and another was promoted since: closes")
            self._close()
            self._stop_waiting()
            return self._say("waiting", "to see what it has, now that it is closed")
        elif me.writable or not me.locked:
            self._log("was opened for writing by hand, and is not the primary: closes again")
            self.server.execute(statements.close_for_writing())
        if isinstance(decision, Follow):
            return self._follow(me, decision, peers)
        if isinstance(decision, Clone):
            return self._clone(me, decision)
        return self._wait(me, decision)

    def _lead(self, me: Facts, decision: Lead, peers: Sequence[Peer]) -> bool:
        semi_sync = self.settings.semi_sync
        if not me.writable:
            self.server.execute(statements.open_for_writing(new=not me.has_schema, semi_sync=semi_sync))
        elif semi_sync:
            self._confirm(me, caught_up=any(_has_all(me, peer) for peer in peers))
        self.orders.note_behind(False)
        text = f"writable, from GTID {me.executed or 'none: a new site'}"
        return self._say("primary", f"{decision.warning}; {text}" if decision.warning else text)

    def _confirm(self, me: Facts, *, caught_up: bool) -> None:
        """Wait for replicas again as soon as one can answer; the note stays until one has everything."""
        if me.alone:
            self.confirmation.note()
        if caught_up and me.alone:
            self.confirmation.again()
        elif caught_up:
            self.confirmation.settle()

    def _caught_up(self, me: Facts, source: Facts) -> None:
        """Take back what was said of this node's disk, once the source has all of it, and it all that it owes."""
        self.orders.note_alone(False)  # otherwise it would have been filled by a clone
        if self.orders.behind:
            self._owed = self._owed or source.executed | source.owned
            if me.known >= self._owed:
                self.orders.note_behind(False)

    def _follow(self, me: Facts, decision: Follow, peers: Sequence[Peer]) -> bool:
        source, trouble = decision.source, f" ({me.trouble})" if me.trouble else ""
        if me.source != source:
            self._owed = None
            self.server.execute(statements.follow(source))
        if me.source != source or not (me.receiving and me.applying):
            self.server.execute(statements.start_replica(self.settings.passwords["replication"]))
            me = replace(me, connected=False)
        if not me.connected:
            return self._say("waiting", f"for {source} to send its binary log{trouble}")
        self._caught_up(me, next(p for p in peers if isinstance(p, Facts) and p.name == source))
        return self._say("replica", f"of {source}{trouble}, from GTID {me.executed or 'none'}")

    def _clone(self, me: Facts, decision: Clone) -> bool:
        donor = decision.donor
        if decision.discards and not self._keep(me, decision):
            return False
        self._say("cloning", f"all data of {donor}: {decision.why}")
        self.volume.tidy()
        self.server.execute(
            statements.clone(donor, self.settings.passwords["replication"], self.volume.clone),
            CLONE_SECONDS,
        )
        self._say("starting", f"on the copy of {donor}")
        # What came since it was copied, and was confirmed, goes with the data that was in use.
        self.orders.note_behind(True)
        self._owed = None
        self.server.restart_on_copy("" if decision.lead else donor)
        self.peers.forget(self.settings.name)
        self._prepare()
        return False

    def _keep(self, me: Facts, decision: Clone) -> bool:
        """Write what only this node has into a file, once; nothing is thrown away that can't be kept."""
        what = decision.discards
        if self._kept is None or self._kept[0] != what:
            if self._unkept and self._unkept[0] == what and time.monotonic() < self._unkept[1]:
                return False
            file = self.orders.keep_discarded()
            if not self.server.dump(str(what), file):
                file.unlink(missing_ok=True)
                self._unkept = what, time.monotonic() + KEEP_AGAIN_SECONDS
                own = f"with {len(what)} transactions of its own, which can't be kept in {file.parent} (a full disk?)"
                mend = f"this needs a person: free some disk, or give them up: make wipe NODE={self.settings.name}"
                return self._say("waiting", f"{own}: {decision.why}; {mend}")
            self._kept = what, file
        gone = len(what) - len(what - me.purged)
        where = f"kept in {self._kept[1]}" + (f", but for {gone} that are in no binary log any more" if gone else "")
        self._log(f"discards {len(what)} transactions, GTID {what}: {decision.why}; {where}")
        return True

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


def _has_all(me: Facts, peer: Peer) -> bool:
    """A replica of this node that is connected and has everything."""
    if not isinstance(peer, Facts) or peer.source != me.name or not peer.connected:
        return False
    return peer.executed >= (me.executed | me.owned)  # what is being committed may have been let go alone


def _message(error: Exception) -> str:
    return " ".join(str(part) for part in error.args)


def main(env: dict[str, str], hostname: str) -> int:
    """Run the node; the exit status of the container."""
    try:
        settings = Settings.read(env, hostname, Path("/run/secrets"))
    except SettingsError as fault:
        log(hostname, f"cannot start: {fault}; {MEND}")
        return 1
    root = Path("/var/lib/mysql")
    volume = Volume(root)
    server = Server(settings, volume)
    server.stop_on_signals()
    orders = Orders(root)
    confirmation = Confirmation(server, orders)
    try:
        Controller(settings, volume, server, Peers(settings.passwords["monitoring"]), orders, confirmation).run()
    except EndedError as end:
        log(hostname, f"stopped: {end}")
        return end.status
    return 0
