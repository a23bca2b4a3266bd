"""A renderer for each platform, made once a run, and the pillars that the suites use."""

from __future__ import annotations

from typing import Any

import pytest
from renderer import GRAINS, Renderer
from support import PILLARS, load


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
