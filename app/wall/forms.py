"""The HTML forms. Flask-WTF adds the CSRF token; text.py has the rules."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from flask_wtf import FlaskForm
from wtforms import Field, Form, HiddenField, PasswordField, StringField, TextAreaField
from wtforms.validators import InputRequired, ValidationError

from wall import text


def rule(check: Callable[[str], str]) -> Callable[[Form, Field], None]:
    """A validator that stores what `check` returns, or shows what it complains about."""

    def validate(_form: Form, field: Field) -> None:
        try:
            # What bytes that aren't UTF-8 become in a multipart form.
            if "\N{REPLACEMENT CHARACTER}" in (field.data or ""):
                raise ValueError("This is not valid UTF-8 text.")
            field.data = check(field.data or "")
        except ValueError as error:
            raise ValidationError(str(error)) from error

    return validate


class LoginForm(FlaskForm):  # type: ignore[misc]
    """Whatever was typed is tried: a rule shown here would only tell about other people's names."""

    name = StringField("Name", [InputRequired("Say who you are.")])
    password = PasswordField("Password", [InputRequired("Type your password.")])


class RegisterForm(FlaskForm):  # type: ignore[misc]
    """A new account."""

    name = StringField("Name", [rule(text.check_name)], description=text.NAME_RULE)
    password = PasswordField(
        "Password",
        [rule(text.check_password)],
        description=f"{text.PASSWORD_MIN} to {text.PASSWORD_MAX} characters",
    )


class MessageForm(FlaskForm):  # type: ignore[misc]
    """A new message, or a new text for one. The key makes a second click harmless."""

    body = TextAreaField("Your message", [rule(text.clean_body)])
    key = HiddenField(default=lambda: uuid.uuid4().hex)


class ButtonForm(FlaskForm):  # type: ignore[misc]
    """Nothing but a button, and the CSRF token that must come with it."""
