"""Idempotency-Key (IETF draft-ietf-httpapi-idempotency-key-header): a retry never acts twice.

The key is claimed, the work done and the answer stored in one transaction. Whoever comes second
waits for that row's lock, then gets the first one's answer. Answers may hold a bearer token, so
they are stored encrypted; fingerprints may cover a password, so they are keyed (HMAC).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from werkzeug.exceptions import BadRequest, Conflict, UnprocessableEntity

from wall.database import Busy, Database, Unavailable
from wall.models import answers, now

KEEP = timedelta(hours=24)
ANONYMOUS = 0
PRUNE_ONE_IN = 100  # requests with a key; each deletes up to PRUNE_ROWS old answers
PRUNE_ROWS = 500


@dataclass(frozen=True)
class Answer:
    """What a request was answered; `replayed` if an earlier one was."""

    status: int
    body: dict[str, Any]
    replayed: bool = False


def parse_key(header: str | None) -> str | None:
    """The key in a header's value, a structured-field string or bare. Raises BadRequest."""
    if header is None:
        return None
    key = header.strip(" ")
    if key.startswith('"'):
        if not re.fullmatch(r'"(?:[ !#-\[\]-~]|\\["\\])*"', key):
            raise BadRequest("Idempotency-Key is not a well-formed quoted string.")
        key = re.sub(r"\\(.)", r"\1", key[1:-1])
    if not re.fullmatch(r"[ -~]{1,255}", key):
        raise BadRequest("Idempotency-Key must have 1 to 255 printable ASCII characters.")
    return key


class Idempotency:
    """Runs work once a key. `secret` is the session key, the same on all app servers."""

    def __init__(self, database: Database, secret: str) -> None:
        self._database = database
        self._fingerprint_key = _derive(secret, "idempotency fingerprints")
        self._seal = Fernet(base64.urlsafe_b64encode(_derive(secret, "idempotency answers")))

    def once(
        self,
        key: str,
        *,
        account_id: int,
        action: str,
        payload: dict[str, Any],
        work: Callable[[Connection], Answer],
    ) -> Answer:
        """The answer of `work`, or of the request that had this key first.

        The same key with another `action` (method and path) or `payload` is UnprocessableEntity.
        What `work` raises is stored nowhere: the key is free again. Raises Conflict while the
        first request is under way.
        """
        fingerprint = hmac.new(
            self._fingerprint_key,
            json.dumps([action, account_id, payload], sort_keys=True).encode(),
            hashlib.sha256,
        ).hexdigest()
        this = (answers.c.account_id == account_id) & (answers.c.idempotency_key == key)
        claim = insert(answers).values(account_id=account_id, idempotency_key=key, fingerprint=fingerprint)

        def transaction(connection: Connection) -> Answer:
            try:
                connection.execute(claim.values(created_at=now()))
            except IntegrityError:  # the statement failed, the transaction goes on
                first = connection.execute(select(answers).where(this).with_for_update()).one()
                if first.created_at > now() - KEEP:
                    return self._again(first.fingerprint == fingerprint, first.answer)
                connection.execute(delete(answers).where(this))
                connection.execute(claim.values(created_at=now()))
            answer = work(connection)
            sealed = self._seal.encrypt(json.dumps([answer.status, answer.body]).encode())
            connection.execute(update(answers).where(this).values(answer=sealed))
            return answer

        try:
            answer = self._database.write(transaction, repeatable=True)
        except Busy as error:
            raise Conflict("A request with this Idempotency-Key is under way.") from error
        if random.randrange(PRUNE_ONE_IN) == 0:  # noqa: S311 - no secret
            self.prune()
        return answer

    def prune(self) -> None:
        """Delete some of the answers that are too old to be given again."""
        old = delete(answers).where(answers.c.created_at < now() - KEEP)
        with suppress(Unavailable):
            self._database.write(
                lambda connection: connection.execute(old.with_dialect_options(mysql_limit=PRUNE_ROWS))
            )

    def _again(self, same: bool, sealed: bytes) -> Answer:
        if not same:
            raise UnprocessableEntity("This Idempotency-Key was used for another request.")
        try:
            status, body = json.loads(self._seal.decrypt(sealed))
        except InvalidToken as error:  # the session key was changed since
            raise Conflict("The first answer to this Idempotency-Key is sealed away.") from error
        return Answer(status, body, replayed=True)


def _derive(secret: str, purpose: str) -> bytes:
    """A key of its own for each purpose, so that no two uses of the session key can meet."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).digest()
