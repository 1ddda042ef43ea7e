"""The JSON API under /api, and its OpenAPI document, generated from what is here.

Reads are plain: a message that was just posted may be unknown to a replica for some milliseconds,
which is what asynchronous replication means. Errors are problem documents; POST honours
Idempotency-Key.
"""
# mypy: disable-error-code="untyped-decorator, import-untyped"
# (flask-smorest has no type hints)

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any

import flask_smorest
from flask import Flask, Response, current_app, jsonify, request
from marshmallow import Schema, ValidationError, fields, validate
from sqlalchemy import Connection, select
from webargs.flaskparser import FlaskParser
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    Unauthorized,
    UnsupportedMediaType,
)

from wall import accounts, messages, problems, text
from wall.accounts import Account
from wall.database import AnyRow, Database, Unavailable
from wall.idempotency import ANONYMOUS, Answer, Idempotency, parse_key
from wall.journey import Journey, journey

ID = {"minimum": 1, "maximum": 10**18 - 1, "format": "int64"}


class Checked(fields.String):
    """A string that one of text.py's rules accepts."""

    def __init__(self, check: Callable[[str], str], **options: Any) -> None:
        super().__init__(**options)
        self._check = check

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> str:
        try:
            return self._check(super()._deserialize(value, attr, data, **options) or "")
        except ValueError as error:
            if isinstance(error, ValidationError):
                raise
            raise ValidationError(str(error)) from error


class CredentialsSchema(Schema):
    """Name and password."""

    name = Checked(
        text.check_name,
        required=True,
        metadata={"description": text.NAME_RULE, "pattern": f"^{text.NAME_PATTERN}$"},
    )
    password = Checked(
        text.check_password,
        required=True,
        metadata={"minLength": text.PASSWORD_MIN, "maxLength": text.PASSWORD_MAX},
    )


class TokenSchema(Schema):
    """A bearer token; it is shown this once and stored as a hash."""

    name = fields.String(required=True)
    token = fields.String(required=True)


class NewMessageSchema(Schema):
    """What a message says."""

    body = Checked(
        text.clean_body,
        required=True,
        metadata={
            "minLength": 1,
            "maxLength": text.BODY_MAX,
            "pattern": text.BODY_PATTERN,
            "description": "Plain text, trimmed before it is counted and stored; no control "
            "characters but newline, and something to be seen in it",
        },
    )


class MessageSchema(Schema):
    """A message. Times are UTC."""

    id = fields.Integer(required=True, metadata=ID)
    body = fields.String(required=True)
    author = fields.String(required=True)
    created_at = fields.String(required=True, metadata={"format": "date-time"})
    edited_at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})


class PageSchema(Schema):
    """Messages, newest first; `next` is the `before` of the next page, null on the last."""

    messages = fields.List(fields.Nested(MessageSchema), required=True)
    next = fields.Integer(required=True, allow_none=True, metadata=ID)


class PageQuerySchema(Schema):
    """Which messages."""

    limit = fields.Integer(load_default=20, validate=validate.Range(1, 100), metadata={"description": "How many"})
    before = fields.Integer(
        load_default=None,
        validate=validate.Range(1, messages.LAST_ID),
        metadata={"description": "Only messages with a smaller id", "format": "int64"},
    )


class ReaderSchema(Schema):
    """A database node that reads."""

    name = fields.String(required=True, allow_none=True)
    role = fields.String(
        required=True,
        allow_none=True,
        validate=validate.OneOf(["primary", "replica", "read-only", "down"]),
    )
    seconds_behind = fields.Integer(required=True, allow_none=True)


class WriterSchema(Schema):
    """The database node that accepts writes; nulls while there is none."""

    name = fields.String(required=True, allow_none=True)
    role = fields.String(required=True, allow_none=True, validate=validate.OneOf(["primary"]))


class ServedBySchema(Schema):
    """The way this request came; null where there is no such station."""

    lb = fields.String(required=True, allow_none=True)
    web = fields.String(required=True, allow_none=True)
    app = fields.String(required=True)
    reads = fields.Nested(ReaderSchema, required=True)
    writes = fields.Nested(WriterSchema, required=True)


class ProblemSchema(Schema):
    """A problem document, RFC 9457."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    errors = fields.Dict(metadata={"description": "What is wrong, by place and field"})


class StrictJson(FlaskParser):
    """JSON bodies, UTF-8, declared as such: anything else is 400 or 415, never a guess."""

    def load_json(self, req: Any, schema: Any) -> Any:
        """The decoded body."""
        if req.mimetype != "application/json":
            raise UnsupportedMediaType("Send application/json.")
        try:
            return json.loads(req.get_data().decode("utf-8"), parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"The body is not JSON in UTF-8: {error}") from error


class Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]
    """flask-smorest's, parsing strictly."""

    ARGUMENTS_PARSER = StrictJson()


class Api(flask_smorest.Api):  # type: ignore[misc]
    """flask-smorest's, with problem documents for errors."""

    ERROR_SCHEMA = ProblemSchema
    DEFAULT_ERROR_RESPONSE_NAME = None  # it would be described as application/json

    def handle_http_exception(self, error: HTTPException) -> Response:
        """Also called for errors of pages, since it is registered for the whole application."""
        return problems.answer(error)


PROBLEMS: dict[int | str, str] = {
    400: "The request is malformed: not JSON, not UTF-8, or a bad Idempotency-Key",
    401: "No bearer token, an unknown one, or name and password don't match",
    403: "The message is somebody else's",
    404: "There is no such message",
    409: "The name is taken, or a request with this Idempotency-Key is under way",
    413: "The body has more than 16 KiB",
    415: "The body is not declared as application/json",
    422: "A value is missing, of the wrong type, unknown or out of range; or the Idempotency-Key "
    "was used for another request",
    "default": "Any other error: a wrong method, too long a body, a mistake of ours",
    503: "The database can't do this now; see Retry-After",
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "1 to 255 printable ASCII characters, quoted or bare, kept for 24 hours. "
    "The same key with the same request gives the first answer again.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": r'^([!#-~]([ -~]*[!-~])?|"([ !#-\[\]-~]|\\["\\])+")$',
    },
}


def blueprint(app: Flask, database: Database, idempotency: Idempotency, server_name: str) -> Blueprint:
    """The API, bound to its database; registers itself and its document on `app`."""
    app.config.update(
        API_TITLE="www.foobar.com",
        API_VERSION="1",
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX=None,  # we serve the document ourselves, so that it is in itself
    )
    api = Api(app)
    api.register_converter(app.url_map.converters["id"], lambda _converter: {"type": "integer", **ID})
    api.spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
    routes = Blueprint("api", __name__, url_prefix="/api", description="The wall, for programs")

    def can_fail(*codes: int) -> Callable[[Any], Any]:
        """Say in the document which problems a route answers with."""

        def decorate(view: Any) -> Any:
            every: list[int | str] = [*codes, "default"]
            for code in every:
                view = routes.alt_response(
                    code,
                    schema=ProblemSchema,
                    description=PROBLEMS[code],
                    content_type=problems.CONTENT_TYPE,
                )(view)
            return view

        return decorate

    def needs_token(view: Any) -> Any:
        """Call the view with the bearer token's owner first.

        Or raise Unauthorized, before anything of the body is looked at.
        """

        @wraps(view)
        def as_caller(*arguments: Any, **options: Any) -> Any:
            scheme = request.authorization
            account = None
            if scheme is not None and scheme.type == "bearer" and scheme.token:
                account = accounts.by_token(database, scheme.token)
            if account is None:
                raise _unauthorized("Send a bearer token: Authorization: Bearer …")
            return view(account, *arguments, **options)

        return routes.doc(security=[{"bearer": []}])(can_fail(401)(as_caller))

    def perform(work: Callable[[Connection], Answer], payload: dict[str, Any], account_id: int = ANONYMOUS) -> Response:
        """Do a POST's work in one transaction, once if the request carries a key."""
        key = parse_key(request.headers.get("Idempotency-Key"))
        if key is None:
            answer = database.write(work)
        else:
            answer = idempotency.once(
                key,
                account_id=account_id,
                action=f"{request.method} {request.path}",
                payload=payload,
                work=work,
            )
        response = jsonify(answer.body)
        response.status_code = answer.status
        if answer.replayed:
            response.headers["Idempotency-Replayed"] = "true"
        if "id" in answer.body:
            response.headers["Location"] = f"/api/messages/{answer.body['id']}"
        if "token" in answer.body:
            response.headers["Cache-Control"] = "no-store"
        return response

    @routes.post("/accounts")
    @routes.arguments(CredentialsSchema)
    @routes.response(201, TokenSchema)
    @can_fail(400, 409, 413, 415, 422, 503)
    @routes.doc(summary="Make an account", parameters=[IDEMPOTENCY_KEY])
    def create_account(credentials: dict[str, str]) -> Response:
        password_hash = accounts.hash_password(credentials["password"])

        def work(connection: Connection) -> Answer:
            account = accounts.create(connection, credentials["name"], password_hash)
            token = accounts.issue_token(connection, account)
            return Answer(201, {"name": account.name, "token": token})

        return perform(work, credentials)

    @routes.post("/tokens")
    @routes.arguments(CredentialsSchema)
    @routes.response(201, TokenSchema)
    @can_fail(400, 401, 409, 413, 415, 422, 503)
    @routes.doc(summary="Get a token for an account", parameters=[IDEMPOTENCY_KEY])
    def create_token(credentials: dict[str, str]) -> Response:
        account = accounts.authenticate(database, credentials["name"], credentials["password"])
        if account is None:
            raise _unauthorized("Name and password don't match.")

        def work(connection: Connection) -> Answer:
            token = accounts.issue_token(connection, account)
            return Answer(201, {"name": account.name, "token": token})

        return perform(work, credentials)

    @routes.get("/messages")
    @routes.arguments(PageQuerySchema, location="query")
    @routes.response(200, PageSchema)
    @can_fail(422, 503)
    @routes.doc(summary="Read the wall")
    def list_messages(query: dict[str, Any]) -> Response:
        rows, older = messages.page(database, before=query["before"], limit=query["limit"])
        return jsonify({"messages": [_json(row) for row in rows], "next": older})

    @routes.post("/messages")
    @needs_token
    @routes.arguments(NewMessageSchema)
    @routes.response(201, MessageSchema)
    @can_fail(400, 409, 413, 415, 422, 503)
    @routes.doc(summary="Post a message", parameters=[IDEMPOTENCY_KEY])
    def create_message(author: Account, payload: dict[str, str]) -> Response:
        def work(connection: Connection) -> Answer:
            return Answer(201, _json(messages.add(connection, author.id, payload["body"])))

        return perform(work, payload, author.id)

    @routes.get("/messages/<id:message_id>")
    @routes.response(200, MessageSchema)
    @can_fail(404, 503)
    @routes.doc(summary="Read a message")
    def get_message(message_id: int) -> Response:
        return jsonify(_json(messages.find(database, message_id)))

    @routes.patch("/messages/<id:message_id>")
    @needs_token
    @routes.arguments(NewMessageSchema)
    @routes.response(200, MessageSchema)
    @can_fail(400, 403, 404, 413, 415, 422, 503)
    @routes.doc(summary="Change one's own message")
    def change_message(author: Account, payload: dict[str, str], message_id: int) -> Response:
        message = database.write(
            lambda connection: messages.change(connection, author.id, message_id, payload["body"]),
            repeatable=True,
        )
        return jsonify(_json(message))

    @routes.delete("/messages/<id:message_id>")
    @needs_token
    @routes.response(204)
    @can_fail(403, 404, 503)
    @routes.doc(summary="Delete one's own message")
    def delete_message(author: Account, message_id: int) -> Response:
        database.write(lambda connection: messages.remove(connection, author.id, message_id))
        return Response(status=204)

    @routes.get("/served-by")
    @routes.response(200, ServedBySchema)
    @can_fail()
    @routes.doc(summary="The way this request came")
    def served_by() -> Journey:
        try:
            database.read(select(1))  # so that the answer is a fact, not an intention
        except Unavailable:
            current_app.logger.warning("served-by: no database answers")
        return journey(database, server_name)

    @routes.get("/openapi.json")
    @routes.response(200, {"type": "object"}, description="This document")
    @can_fail()
    @routes.doc(summary="This document")
    def openapi() -> Response:
        return jsonify(api.spec.to_dict())

    api.register_blueprint(routes)
    return routes


def _json(row: AnyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "body": row.body,
        "author": row.author,
        "created_at": _utc(row.created_at),
        "edited_at": _utc(row.edited_at) if row.edited_at else None,
    }


def _utc(moment: datetime) -> str:
    return f"{moment.isoformat(timespec='seconds')}Z"


def _unauthorized(detail: str) -> Unauthorized:
    return Unauthorized(detail, www_authenticate=WWWAuthenticate("bearer"))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
