"""What of a secret file may be shown: the names of its options, and of its values those that are no secret."""

from __future__ import annotations

import re

SHOWN = "(secret)"
SECRET_NAME = re.compile(r"pass|pw|secret|token|credential|key", re.IGNORECASE)
OPTION = re.compile(r"^(\s*)([A-Za-z_][\w-]*)(\s*[:=]\s*|\s+)(.*)$")
LOGIN_IN_URL = re.compile(r"//[^/@\s]+@")


def masked(text: str) -> str:
    """Return a configuration text with what may be secret replaced.

    Comments stay. A line that isn't a name and a value is hidden whole, so is the value of an option that is called as
    secrets are, and so is a login within a URL.
    """
    return "".join(_line(line) for line in text.splitlines(keepends=True))


def _line(line: str) -> str:
    bare = line.rstrip("\r\n")
    end = line[len(bare) :]
    if not bare.strip() or bare.lstrip().startswith("#"):
        return line
    option = OPTION.match(bare)
    if not option:
        return f"{SHOWN}{end}"
    blank, name, between, value = option.groups()
    value = SHOWN if SECRET_NAME.search(name) and value else LOGIN_IN_URL.sub(f"//{SHOWN}@", value)
    return f"{blank}{name}{between}{value}{end}"
