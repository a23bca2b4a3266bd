"""A host of pretend daemons, bare or applied."""

from __future__ import annotations

from pathlib import Path

import pytest
from pretend_daemons import Host


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path / "host", monkeypatch)


@pytest.fixture
def applied(host: Host) -> Host:
    """Return a host on which the whole has been applied, and whose daemons run."""
    host.apply()
    host.calls()
    return host
