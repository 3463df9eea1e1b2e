"""Who runs a command, kept with what people decide."""

import getpass
import os


def current_user() -> str:
    """The user's name, or number where there is none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has a number only
        return f"uid {os.getuid()}"
