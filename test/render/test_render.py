"""The formula renders for every platform and pillar, and what it renders holds together."""

from __future__ import annotations

import json
from typing import Any

import pytest
from renderer import Renderer
from support import REPOSITORY, load

ROOMS = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".init")
    for path in (REPOSITORY / "smtpout").rglob("*.sls")
)


def secrets(pillar: dict[str, Any]) -> list[str]:
    """Return the secrets of a site's pillar."""
    return [pillar["smtpout"]["directory"]["bind_password"], pillar["smtpout"]["verify"]["password"]]


@pytest.mark.parametrize("sls", ROOMS)
def test_every_sls_renders_by_itself_and_its_requisites_exist(renderer: Renderer, sls: str) -> None:
    high, errors = renderer.highstate(sls, load("example"))
    assert errors == []
    chunks, errors = renderer.low(high)
    assert errors == []
    assert chunks


def test_every_configuration_file_renders(renderer: Renderer, pillar: dict[str, Any]) -> None:
    high, _ = renderer.highstate("smtpout", pillar)
    texts = renderer.files(renderer.low(high)[0])
    assert "/etc/postfix/main.cf" in texts
    assert all(texts.values())


def test_no_secret_passes_through_a_rendered_sls(renderer: Renderer, pillar: dict[str, Any]) -> None:
    high, _ = renderer.highstate("smtpout", pillar)
    rendered = json.dumps(high)
    assert not [secret for secret in secrets(pillar) if secret in rendered]


@pytest.mark.parametrize("sls", ["smtpout", "smtpout.clean"])
def test_a_wrong_pillar_leaves_one_state_that_says_everything(renderer: Renderer, sls: str) -> None:
    pillar = load("example")
    pillar["smtpout"]["domain"] = pillar["smtpout"].pop("domains")
    pillar["smtpout"]["opendkim"]["bits"] = 512
    high, errors = renderer.highstate(sls, pillar)
    assert errors == []
    chunks, errors = renderer.low(high)
    assert errors == []
    assert [(chunk["state"], chunk["fun"]) for chunk in chunks] == [("smtpout", "valid")]
    said = renderer.state.states["smtpout.valid"](chunks[0]["__id__"])
    assert said["result"] is False
    for part in ("smtpout:domain", "domains", "smtpout:opendkim:bits", "512", "RFC 8301"):
        assert part in said["comment"]


@pytest.mark.parametrize("sls", ["smtpout", "smtpout.clean"])
@pytest.mark.parametrize("managed", [True, False])
def test_a_site_may_see_to_its_firewall_itself(renderer: Renderer, sls: str, managed: bool) -> None:
    pillar = load("example")
    pillar["smtpout"]["firewall"] = {"managed": managed}
    chunks, _ = renderer.low(renderer.highstate(sls, pillar)[0])
    assert any(chunk["state"] == "host_firewall" for chunk in chunks) is managed


def test_an_unknown_platform_is_refused(renderers: dict[str, Renderer]) -> None:
    renderer = next(iter(renderers.values()))
    grains = renderer.state.functions.pack["__grains__"]
    known = grains["osmajorrelease"]
    try:
        grains["osmajorrelease"] = 7
        high, _ = renderer.highstate("smtpout", load("example"))
        assert list(high) == ["The site's pillar is right"]
        assert "debian-7" in renderer.state.states["smtpout.valid"]("")["comment"]
    finally:
        grains["osmajorrelease"] = known
