"""The formula's modules and states, loaded by Salt's own loader.

A test asks for ``modules["postmap.query"]`` or ``states["postmap.built"]`` and gets what a minion would
call, dunders and all; ``states.opts["test"]`` switches test mode.
"""

from __future__ import annotations

from typing import Any

import pytest
import salt.loader
from support import minion_opts


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what bin/test hands on."""
    parser.addoption("--update", action="store_true", help="write what is generated instead of comparing it")


class States:
    """The state functions, called by name; ``test=True`` goes in as an option, as Salt does it."""

    def __init__(self, opts: dict[str, Any], functions: Any) -> None:
        self.opts = opts
        self.functions = functions
        self._states = salt.loader.states(opts, functions, salt.loader.utils(opts), None)

    def __call__(self, function: str, *, test: bool = False, **arguments: Any) -> dict[str, Any]:
        self._states.opts["test"] = self._states.pack["__opts__"]["test"] = test
        self.functions.opts["test"] = self.functions.pack["__opts__"]["test"] = test
        return self._states[function](**arguments)


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the execution functions, by name."""
    return salt.loader.minion_mods(minion_opts(tmp_path_factory.mktemp("minion")))


@pytest.fixture(scope="session")
def states(modules: Any) -> States:
    """Return the state functions: ``states("postmap.built", name=..., test=True)``."""
    return States(modules.opts, modules)
