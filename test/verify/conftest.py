"""What looks at one applied relay from the inside, wherever it runs: kitchen.yml's verifier.

``host`` is testinfra's, from the command's ``--hosts``; ``KITCHEN_SUITE`` says which suite's pillar was applied.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from typing import Any

import pytest
from support import PILLARS
from testinfra.host import Host

Salt = Callable[..., Any]

# Each command's whole answer would stand in the report of a failure.
logging.getLogger("testinfra").setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def suite() -> str:
    """Return the name of the suite that the host was applied with."""
    name = os.environ.get("KITCHEN_SUITE", "")
    if name not in PILLARS:
        pytest.exit(f"KITCHEN_SUITE is {name!r}; kitchen.yml has {', '.join(PILLARS)}", returncode=2)
    return name


@pytest.fixture(scope="module")
def salt(host: Host) -> Salt:
    """Return a function that asks the host's own Salt: ``salt("opendkim.public_records")``."""

    def ask(function: str, *arguments: str) -> Any:
        command = "salt-call --local --out=json " + " ".join(["%s"] * (1 + len(arguments)))
        return json.loads(host.check_output(command, function, *arguments))["local"]

    return ask
