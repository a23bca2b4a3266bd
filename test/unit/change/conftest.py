"""A host of pretend daemons, bare or applied."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pretend_daemons import Host
from pretend_site import Site


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path / "host", monkeypatch)


@pytest.fixture
def applied(host: Host) -> Host:
    """Return a host on which the whole has been applied, and whose daemons run."""
    host.apply()
    host.calls()
    return host


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Return a site on a bare host, in memory where there is such a place: it is copied for each kill."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        yield Site(Host(Path(place, "host"), monkeypatch))
