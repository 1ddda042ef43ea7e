"""What a name, a password and a message may be: the limits, said once for pages and API alike."""

from __future__ import annotations

import re
import unicodedata

NAME_PATTERN = "[A-Za-z0-9_-]{3,32}"
NAME_RULE = "3 to 32 characters: letters without accents, digits, hyphen and underscore"
PASSWORD_MIN, PASSWORD_MAX = 10, 128
BODY_MAX = 500
INVISIBLE = {"Cc", "Cf", "Zs", "Zl", "Zp"}  # control, format, separators; unassigned may be tomorrow's emoji
BODY_PATTERN = r"^[^\x00-\x09\x0b-\x1f\x7f-\x9f]*$"  # for the API's description; clean_body decides


def check_name(name: str) -> str:
    """The name itself, or ValueError with the rule."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(f"Use {NAME_RULE}.")
    return name


def check_password(password: str) -> str:
    """The password as it was typed, or ValueError with the rule."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise ValueError(f"Use {PASSWORD_MIN} to {PASSWORD_MAX} characters.")
    if not _is_unicode(password):
        raise ValueError("This is not valid Unicode text.")
    return password


def clean_body(body: str) -> str:
    """A message as it is stored: trimmed, lines ended by newline alone.

    ValueError says what is wrong with it. Length counts code points, as MySQL's VARCHAR does.
    """
    body = body.replace("\r\n", "\n").strip()
    if not _is_unicode(body):
        raise ValueError("This is not valid Unicode text.")
    if any(unicodedata.category(character) == "Cc" for character in body if character != "\n"):
        raise ValueError("Control characters other than newline are not allowed.")
    if all(unicodedata.category(character) in INVISIBLE for character in body):
        raise ValueError("Write something.")
    if len(body) > BODY_MAX:
        raise ValueError(f"Use at most {BODY_MAX} characters; this has {len(body)}.")
    return body


def _is_unicode(text: str) -> bool:
    r"""False for lone surrogates, which JSON can carry (`"\\ud800"`) and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
