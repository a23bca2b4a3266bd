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
    high, errors = renderer.highstate(sls, load("default"))
    assert errors == []
    chunks, errors = renderer.low(high)
    assert errors == []
    assert chunks


def test_no_secret_passes_through_a_rendered_sls(renderer: Renderer, pillar: dict[str, Any]) -> None:
    high, _ = renderer.highstate("smtpout", pillar)
    rendered = json.dumps(high)
    assert not [secret for secret in secrets(pillar) if secret in rendered]


@pytest.mark.parametrize("sls", ["smtpout", "smtpout.clean"])
def test_a_wrong_pillar_leaves_a_state_that_says_everything_and_one_that_undoes_what_was_cut_short(
    renderer: Renderer, sls: str
) -> None:
    pillar = load("default")
    pillar["smtpout"]["domain"] = pillar["smtpout"].pop("domains")
    pillar["smtpout"]["opendkim"]["bits"] = 512
    high, errors = renderer.highstate(sls, pillar)
    assert errors == []
    chunks, errors = renderer.low(high)
    assert errors == []
    left = [(chunk["state"], chunk["fun"]) for chunk in chunks]
    assert left == [("smtpout_site", "recovered"), ("smtpout", "valid")]
    said = renderer.state.states["smtpout.valid"](chunks[1]["__id__"])
    assert said["result"] is False
    for part in ("smtpout:domain", "domains", "smtpout:opendkim:bits", "512", "RFC 8301"):
        assert part in said["comment"]


@pytest.mark.parametrize("sls", ["smtpout", "smtpout.clean"])
@pytest.mark.parametrize("there", [True, False], ids=["other code", "older than the list"])
def test_other_code_than_is_served_leaves_one_state_that_says_what_to_run(
    renderers: dict[str, Renderer], monkeypatch: pytest.MonkeyPatch, sls: str, there: bool
) -> None:
    renderer = renderers["debian-12"]
    functions = renderer.state.functions
    assert "smtpout.other_code" in functions  # and loaded now
    if there:
        monkeypatch.setitem(functions._dict, "smtpout.other_code", lambda _saltenv: ["_modules/smtpout.py", "b"])
    else:
        monkeypatch.delitem(functions._dict, "smtpout.other_code")
    high, errors = renderer.highstate(sls, load("default"))
    assert errors == []
    chunks, errors = renderer.low(high)
    assert errors == []
    (chunk,) = chunks
    said = renderer.state.call(chunk)
    assert said["result"] is False
    assert "This host has other code of smtpout than is served (_modules/smtpout.py; " in said["name"]
    assert "run salt-call saltutil.sync_all" in chunk["comment"]


@pytest.mark.parametrize("sls", ROOMS)
def test_no_state_goes_on_where_the_first_ones_fail(renderers: dict[str, Renderer], sls: str) -> None:
    """By salt-ssh SLS files are rendered elsewhere: that the host's code is another shows in a state only."""
    renderer = renderers["debian-12"]
    chunks, _ = renderer.low(renderer.highstate(sls, load("default"))[0])
    needs = {chunk["__id__"]: {name for need in chunk.get("require", ()) for name in need.values()} for chunk in chunks}
    held, last = {"The site's pillar is right", "No change of the mail system is half done"}, 0
    while len(held) > last:
        last = len(held)
        held |= {name for name, needed in needs.items() if needed & held}
    assert needs.keys() - held == set()


@pytest.mark.parametrize("sls", ["smtpout", "smtpout.clean"])
@pytest.mark.parametrize("managed", [True, False])
def test_a_site_may_see_to_its_firewall_itself(renderer: Renderer, sls: str, managed: bool) -> None:
    pillar = load("default")
    pillar["smtpout"]["firewall"] = {"managed": managed}
    chunks, _ = renderer.low(renderer.highstate(sls, pillar)[0])
    assert any(chunk["state"] == "host_firewall" or chunk.get("daemon") == "firewall" for chunk in chunks) is managed


def test_clean_leaves_the_hosts_python(renderer: Renderer) -> None:
    pillar = load("default")
    pillar["smtpout"]["clean"] = {"remove_packages": True}
    chunks, _ = renderer.low(renderer.highstate("smtpout.clean", pillar)[0])
    [removed] = [chunk["packages"] for chunk in chunks if chunk["fun"] == "packages_removed"]
    assert "postfix" in removed
    assert [name for name in removed if name.startswith("python")] == []


def test_an_unknown_platform_is_refused(renderers: dict[str, Renderer]) -> None:
    renderer = renderers["ubuntu-24.04"]
    grains = renderer.state.functions.pack["__grains__"]
    known = grains["osrelease"]
    try:
        grains["osrelease"] = "24.10"
        high, _ = renderer.highstate("smtpout", load("default"))
        assert list(high) == ["No change of the mail system is half done", "The site's pillar is right"]
        assert "ubuntu-24.10" in renderer.state.states["smtpout.valid"]("")["comment"]
    finally:
        grains["osrelease"] = known


def test_the_first_state_says_how_far_a_platform_was_tried(renderers: dict[str, Renderer]) -> None:
    said = {}
    for platform, renderer in renderers.items():
        renderer.use(load("recipe" if platform == "el-7" else "default"))
        said[platform] = renderer.state.states["smtpout.valid"]("")
    assert said["debian-12"]["result"] is True
    assert "warnings" not in said["debian-12"]
    assert said["el-9"]["result"] is True
    assert "el-9" in said["el-9"]["warnings"][0]
    assert said["el-7"]["result"] is False
    assert "never applied" in said["el-7"]["comment"]
