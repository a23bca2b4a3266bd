"""Read the pillars of other formulas from a file, and write the site pillar that is made of them."""

from __future__ import annotations

import os
from typing import Any

import salt.utils.files
import salt.utils.yaml
from salt.exceptions import CommandExecutionError


class _Readable(salt.utils.yaml.SafeOrderedDumper):
    """Writes a text of several lines, such as a private key, as it stands."""


_Readable.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def read(path: str) -> Any:
    """Return what a YAML file holds.

    CLI Example:

    .. code-block:: bash

        salt-call --local pillar_import.read /root/theirs.yaml

    path
        The file, as Salt's own loader takes it: no key may be there twice.

    Raises CommandExecutionError where it can't be read; what is wrong is told by place, since its text may be secret.
    """
    try:
        with salt.utils.files.fopen(path, encoding="utf-8") as file:
            return salt.utils.yaml.safe_load(file)
    except OSError as error:
        raise CommandExecutionError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, salt.utils.yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise CommandExecutionError(f"{path}{where}: not YAML, or a key twice") from None


def write(path: str, site: dict[str, Any], missing: list[str]) -> None:
    """Write a site pillar, mode 0600, and above it what it still needs.

    CLI Example: none, since a site holds secrets, which are no arguments.

    path
        The new file. One that is there stays, and is an error.
    site
        What stands below ``smtpout``.
    missing
        One sentence each.

    Raises CommandExecutionError where the file exists or can't be written.
    """
    text = salt.utils.yaml.dump({"smtpout": site}, Dumper=_Readable, default_flow_style=False, sort_keys=False)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write("".join(f"# To add: {sentence}\n" for sentence in missing) + text)
    except OSError as error:
        raise CommandExecutionError(f"{path}: {error.strerror}") from error
