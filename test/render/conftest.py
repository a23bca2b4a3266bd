"""A renderer for each platform, made once a run, and the pillars that the suites use."""

from __future__ import annotations

from typing import Any

import pytest
from renderer import Renderer
from support import PILLARS, load


def grains(name: str, family: str, release: str, **more: str) -> dict[str, Any]:
    """Return what Salt's own grains say on such a host (salt/grains/core.py, os_data)."""
    major = int(release.partition(".")[0])
    return {"os": name, "os_family": family, "osrelease": release, "osmajorrelease": major, **more}


# Good for rendering only: with another family's grains, pkg and service are that family's.
GRAINS = {
    "debian-12": grains("Debian", "Debian", "12"),
    "debian-13": grains("Debian", "Debian", "13"),
    "ubuntu-24.04": grains("Ubuntu", "Debian", "24.04"),
    "ubuntu-26.04": grains("Ubuntu", "Debian", "26.04"),
    "el-7": grains("CentOS", "RedHat", "7.9.2009"),
    "el-8": grains("CentOS Stream", "RedHat", "8"),
    "el-9": grains("AlmaLinux", "RedHat", "9.6"),
    "el-10": grains("Rocky", "RedHat", "10.1"),
    "fedora": grains("Fedora", "RedHat", "44"),
    "amazon-2023": grains("Amazon", "RedHat", "2023"),
    "leap-15.6": grains("SUSE", "Suse", "15.6", osfullname="Leap"),
    "leap-16": grains("SUSE", "Suse", "16.0", osfullname="Leap"),
}


@pytest.fixture(scope="session")
def renderers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Renderer]:
    """Return a renderer by platform."""
    root = tmp_path_factory.mktemp("render")
    return {
        name: Renderer(root, {"fqdn": "relay.example.com", "kernel": "Linux", **known})
        for name, known in GRAINS.items()
    }


@pytest.fixture(params=GRAINS)
def renderer(request: pytest.FixtureRequest, renderers: dict[str, Renderer]) -> Renderer:
    """Return each platform's renderer in turn."""
    return renderers[request.param]


@pytest.fixture(params=PILLARS)
def pillar(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return each pillar in turn."""
    return load(request.param)
