"""The one exception that a user is meant to see."""


class UserError(Exception):
    """What went wrong, where, and the command that mends it; shown without a traceback."""
