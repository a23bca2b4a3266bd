"""Read the pillars of other formulas from a file, and write the site pillar that is made of them."""

from __future__ import annotations

import os
from typing import Any

import yaml

from smtpout_core.errors import RelayError
from smtpout_core.site.documents import Parse


class _Readable(yaml.SafeDumper):
    """Writes a text of several lines, such as a private key, as it stands."""


_Readable.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def read(path: str, parse: Parse) -> Any:
    """Return what a YAML file holds.

    :param path: the file, as Salt's own loader takes it: no key may be there twice.
    :param parse: that loader.

    :raises RelayError: where it can't be read; what is wrong is told by place, since its text may be secret.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return parse(file.read())
    except OSError as error:
        raise RelayError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise RelayError(f"{path}{where}: not YAML, or a key twice") from None


def write(path: str, site: dict[str, Any], missing: list[str]) -> None:
    """Write a site pillar, mode 0600, and above it what it still needs.

    :param path: the new file. One that is there stays, and is an error.
    :param site: what stands below ``smtpout``.
    :param missing: one sentence each.

    :raises RelayError: where the file exists or can't be written.
    """
    text = yaml.dump({"smtpout": site}, Dumper=_Readable, default_flow_style=False, sort_keys=False)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write("".join(f"# To add: {sentence}\n" for sentence in missing) + text)
    except OSError as error:
        raise RelayError(f"{path}: {error.strerror}") from error
