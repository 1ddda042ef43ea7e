"""The site for people: the wall, accounts, writing, changing and taking down messages."""
# mypy: disable-error-code="untyped-decorator"
# (Flask-Login has no type hints)

from __future__ import annotations

import time
from typing import Any

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask_login import current_user, login_required, login_user, logout_user
from sqlalchemy import Connection
from werkzeug.exceptions import BadRequest, Conflict, Forbidden, UnprocessableEntity

from wall import accounts, messages
from wall.database import Database, Unavailable
from wall.forms import ButtonForm, LoginForm, MessageForm, RegisterForm
from wall.idempotency import Answer, Idempotency, parse_key
from wall.problems import words_for

PER_PAGE = 20
FRESH_FOR = 5  # seconds for which somebody who wrote reads from the primary, to see it


def blueprint(app: Flask, database: Database, idempotency: Idempotency) -> Blueprint:
    """The pages, bound to their database."""
    pages = Blueprint("pages", __name__)

    def wrote() -> None:
        session["wrote_at"] = int(time.time())

    def newest() -> bool:
        """Whether this visitor wrote a moment ago, which a replica may not know yet."""
        return bool(request.cookies) and time.time() - session.get("wrote_at", 0) < FRESH_FOR

    def own_message(message_id: int) -> Any:
        message = messages.find(database, message_id, newest=True)
        if message.account_id != current_user.id:
            raise Forbidden
        return message

    @pages.get("/")
    def wall() -> str:
        before = request.args.get("before")
        if before is not None and not (before.isascii() and before.isdigit() and len(before) < 20):
            abort(404)
        # Only a session can make somebody of a visitor; without one nothing is looked up.
        viewer = current_user if request.cookies and current_user.is_authenticated else None
        rows, older = messages.page(
            database,
            before=min(int(before), messages.LAST_ID) if before else None,
            limit=PER_PAGE,
            newest=newest(),
        )
        return render_template(
            "wall.html",
            messages=rows,
            older=older,
            before=before,
            viewer=viewer,
            form=MessageForm() if viewer and not before else None,
        )

    @pages.post("/messages")
    @login_required
    def post() -> Any:
        form = MessageForm()
        if not form.validate_on_submit():
            return render_template("message.html", form=form, action="Post"), 400
        author, body = current_user.id, form.body.data

        def work(connection: Connection) -> Answer:
            return Answer(201, {"id": messages.add(connection, author, body).id})

        try:
            idempotency.once(
                parse_key(form.key.data or form.key.default()) or "",
                account_id=author,
                action="POST /messages",
                payload={"body": body},
                work=work,
            )
        except Conflict:  # the first click may be on its way: under another key, this would be another message
            form.body.errors = [
                "This seems to be on its way. Look at the wall; sent again, it is there once all the same."
            ]
            return render_template("message.html", form=form, action="Post"), 409
        except (BadRequest, UnprocessableEntity):
            # The text was changed after it had been sent: a new message, under a new key.
            form.key.data = form.key.default()
            form.body.errors = ["This was sent before with another text. Post this as well?"]
            return render_template("message.html", form=form, action="Post"), 409
        except Unavailable as error:
            return held(error, "message.html", form=form, action="Post")
        wrote()
        return redirect(url_for("pages.wall"), 303)

    @pages.route("/messages/<id:message_id>/edit", methods=["GET", "POST"])
    @login_required
    def edit(message_id: int) -> Any:
        message = own_message(message_id)
        form = MessageForm(body=message.body)
        view = {"form": form, "action": "Save", "message": message}
        if not form.validate_on_submit():
            return render_template("message.html", **view), 400 if form.is_submitted() else 200
        try:
            database.write(
                lambda connection: messages.change(connection, current_user.id, message_id, form.body.data),
                repeatable=True,
            )
        except Unavailable as error:
            return held(error, "message.html", **view)
        wrote()
        return redirect(url_for("pages.wall"), 303)

    @pages.route("/messages/<id:message_id>/delete", methods=["GET", "POST"])
    @login_required
    def delete(message_id: int) -> Any:
        message = own_message(message_id)
        view = {"form": ButtonForm(), "message": message}
        if not view["form"].validate_on_submit():
            return render_template("delete.html", **view)
        try:
            database.write(lambda connection: messages.remove(connection, current_user.id, message_id))
        except Unavailable as error:
            return held(error, "delete.html", **view)
        wrote()
        return redirect(url_for("pages.wall"), 303)

    @pages.route("/register", methods=["GET", "POST"])
    def register() -> Any:
        form = RegisterForm()
        if not form.validate_on_submit():
            return render_template("register.html", form=form), 400 if form.is_submitted() else 200
        try:
            password_hash = accounts.hash_password(form.password.data)
            account = database.write(lambda connection: accounts.create(connection, form.name.data, password_hash))
        except Conflict:
            form.name.errors = ["This name is taken."]
            return render_template("register.html", form=form), 409
        except Unavailable as error:
            return held(error, "register.html", form=form)
        login_user(account)
        wrote()
        return redirect(url_for("pages.wall"), 303)

    @pages.route("/login", methods=["GET", "POST"])
    def login() -> Any:
        form = LoginForm()
        if not form.validate_on_submit():
            return render_template("login.html", form=form), 400 if form.is_submitted() else 200
        account = accounts.authenticate(database, form.name.data, form.password.data)
        if account is None:
            form.password.errors = ["Name and password don't match."]
            return render_template("login.html", form=form), 401
        login_user(account)
        return redirect(url_for("pages.wall"), 303)

    @pages.post("/logout")
    def logout() -> Any:
        logout_user()
        session.clear()
        return redirect(url_for("pages.wall"), 303)

    return pages


def held(error: Unavailable, template: str, **view: Any) -> Response:
    """The form again, with what was typed, and why it could not be stored: 503."""
    title, words = words_for(error)
    current_app.logger.warning("503 %s: %s %s", request.path, type(error).__name__, error)
    page = render_template(template, held=f"{title}. {words}", **view)
    return make_response(page, 503, {"Retry-After": str(error.retry_after)})
