"""What the formula makes of the pillars on every platform: compared with golden files, and read by the daemons.

``golden/PLATFORM/SUITE`` holds each file as it would lie on such a host, and ``states``, what would run in which order.
A file that is the same as its base platform's is not kept twice. ``bin/test render --update`` writes them; what then
differs is to be reviewed as a configuration of that platform.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from renderer import GRAINS, Renderer
from smtpout_core.change.parts import Daemon
from smtpout_core.change.staging import staged
from smtpout_core.daemons.postfix import conf
from smtpout_core.daemons.postfix.table import Table
from support import PILLARS, REPOSITORY, load

GOLDEN = Path(__file__).parent / "golden"
PLATFORMS = yaml.safe_load((REPOSITORY / "smtpout/platforms.yaml").read_text(encoding="utf-8"))
RECIPE = yaml.safe_load((REPOSITORY / "test/lab/recipe.yaml").read_text(encoding="utf-8"))
FLOORS = yaml.safe_load((Path(__file__).parent / "floors.yaml").read_text(encoding="utf-8"))

# Whose files a platform shares, one that stands before it in GRAINS; the others are complete.
BASES = {
    "debian-13": "debian-12",
    "ubuntu-24.04": "debian-12",
    "ubuntu-26.04": "debian-13",
    "el-9": "el-8",
    "el-10": "el-9",
    "fedora": "el-10",
    "amazon-2023": "el-10",
    "leap-16": "leap-15.6",
}

# What stands in a state for the one who reads it, apart from bookkeeping and from what the files themselves show.
BOOKKEEPING = ("state", "fun", "name", "order", "require", "require_in")

# CentOS 7 is there for the recipe alone.
CASES = [(platform, suite) for platform in GRAINS for suite in PILLARS if (platform, suite) != ("el-7", "default")]


class Result:
    """The formula's complete result on a platform: texts by path, and the states; or why the pillar is refused."""

    def __init__(self, renderer: Renderer, suite: str) -> None:
        self.renderer = renderer
        high, errors = renderer.highstate("smtpout", load(suite))
        chunks, more = renderer.low(high)
        assert errors + more == []
        self.settings = renderer.state.functions["smtpout.settings"]()
        self.daemons = renderer.daemons()
        self.texts = renderer.files()
        for table in [part for daemon in self.daemons for part in daemon.parts if isinstance(part, Table)]:
            self.texts[table.path] = "".join(f"{key} {value}\n" for key, value in table.entries.items())
        lines = [*self.settings["errors"], *map(described, chunks), *map(introduced, self.daemons)]
        self.texts["/states"] = "\n".join(lines) + "\n"


def described(chunk: dict[str, Any]) -> str:
    """Return a state as a reviewer wants to see it: sentence, function, arguments and files with their modes."""
    lines = [chunk["__id__"], f"  {chunk['state']}.{chunk['fun']}"]
    for key, value in sorted(chunk.items()):
        if key not in BOOKKEEPING and not key.startswith("__"):
            lines.append(f"    {key}: {json.dumps(value)}")
    return "\n".join(lines)


def introduced(daemon: Daemon) -> str:
    """Return a daemon's description as a reviewer wants to see it."""
    said = {
        "units": [*daemon.units, *([f"counts: {daemon.working}"] if daemon.working else [])],
        "needs": [f"{setting.kind} {json.dumps(setting.undoing())}" for setting in daemon.settings],
        "probes": [f"{probe.way} {json.dumps(probe.told)}" for probe in daemon.probes],
        "patience": daemon.patience,
        "reads": daemon.reads,
        "follows": daemon.follows,
        "restarts for": dict(daemon.restart_for),
        "reloads": daemon.reloads,
    }
    lines = [
        daemon.name,
        *(f"    {key}: {json.dumps(value)}" for key, value in said.items() if value not in ([], (), {})),
    ]
    for file in daemon.files:
        lines.append(f"    {file.path} {file.mode} {file.user}:{file.group}")
        lines[-1] += f"{' secret' if file.secret else ''}{' restart' if file.restart else ''}"
    for table in [part for part in daemon.parts if isinstance(part, Table)]:
        lines += [f"    {path} {table.mode:04o}" for path in table.paths]
    return "\n".join(lines)


def kept(platform: str, suite: str, path: str) -> Path | None:
    """Return where a golden file is: the platform's own, or that of the platform it is based on."""
    own = GOLDEN / platform / suite / path.lstrip("/")
    if own.exists() or platform not in BASES:
        return own if own.exists() else None
    return kept(BASES[platform], suite, path)


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest, renderers: dict[str, Renderer]) -> tuple[str, str, Result]:
    """Return each platform with each suite, and what the formula makes of them."""
    platform, suite = request.param
    return platform, suite, Result(renderers[platform], suite)


def test_the_result_is_what_was_reviewed(case: tuple[str, str, Result], request: pytest.FixtureRequest) -> None:
    platform, suite, result = case
    folder = GOLDEN / platform / suite
    if request.config.getoption("--update"):
        shutil.rmtree(folder, ignore_errors=True)
        for path, text in result.texts.items():
            base = kept(platform, suite, path)
            if path == "/states" or base is None or base.read_text(encoding="utf-8") != text:
                own = folder / path.lstrip("/")
                own.parent.mkdir(parents=True, exist_ok=True)
                own.write_text(text, encoding="utf-8")
        return
    golden = {path: kept(platform, suite, path) for path in result.texts}
    assert {path for path, file in golden.items() if file is None} == set(), "new files: bin/test render --update"
    stored = {f"/{file.relative_to(folder)}" for file in folder.rglob("*") if file.is_file()}
    assert stored - set(result.texts) == set(), "files that are no longer made: bin/test render --update"
    for path, file in golden.items():
        assert file is not None
        assert result.texts[path] == file.read_text(encoding="utf-8"), f"{path}: see {file}"


def test_the_daemons_parsers_take_it(case: tuple[str, str, Result], monkeypatch: pytest.MonkeyPatch) -> None:
    platform, _, result = case
    if PLATFORMS[platform]["proof"] == "rendered" or not result.daemons:
        return
    state = result.renderer.state
    # Started aside, Postfix would want the platform's users; the site's directory is none of this machine's.
    monkeypatch.setattr("smtpout_core.daemons.postfix.trial.complaints", lambda *_, **__: [])
    here = conf.values(conf.LIVE, "daemon_directory", "setgid_group")
    for name, ours in here.items():  # the programs and the group are this machine's
        monkeypatch.setitem(state.functions["smtpout.settings"]()["postfix"], name, ours)
    host = result.renderer.host()
    with staged([part for daemon in result.daemons for part in result.renderer.parts(daemon)], host) as stage:
        for daemon in result.daemons:
            assert daemon.check is None or [*daemon.check(stage.where, host)] == []


def test_postfix_has_nothing_to_warn_of_in_a_search(case: tuple[str, str, Result]) -> None:
    """It does of each that names nobody, whenever a process opens it: "Fixed query_filter ... is probably useless"."""
    _, _, result = case
    filters = {
        path: [line for line in text.splitlines() if line.startswith("query_filter = ")]
        for path, text in result.texts.items()
        if path.startswith("/etc/postfix/") and path.endswith(".ldap")
    }
    assert bool(filters) is ("/etc/postfix/main.cf" in result.texts)
    for path, (line,) in filters.items():
        assert re.search(r"%[sudSUD1-9]", line), path


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def has(version: str, since: list[str]) -> bool:
    """Return whether a Postfix has what came with these versions, the first of which began it; others got it later."""
    own = numbers(version)
    return own >= numbers(since[0]) or any(own[:2] == numbers(each)[:2] and own >= numbers(each) for each in since)


def test_postfix_gets_nothing_that_its_version_lacks(case: tuple[str, str, Result]) -> None:
    platform, _, result = case
    version = PLATFORMS[platform]["postfix"]["version"]
    written = result.texts.get("/etc/postfix/main.cf", "") + result.texts.get("/etc/postfix/master.cf", "")
    lines = [line for line in written.splitlines() if not line.startswith("#")]
    for floor in FLOORS:
        if not has(version, floor["since"]):
            assert [line for line in lines if re.search(floor["pattern"], line)] == [], floor


def test_the_floors_are_about_what_is_written(renderers: dict[str, Renderer]) -> None:
    texts = [Result(renderers["debian-12"], suite).texts for suite in PILLARS]
    written = "\n".join(text["/etc/postfix/main.cf"] + text["/etc/postfix/master.cf"] for text in texts)
    unused = [floor["pattern"] for floor in FLOORS if not re.search(floor["pattern"], written, re.MULTILINE)]
    assert unused == []


def test_the_recipes_platform_has_the_recipes_files_line_by_line(renderers: dict[str, Renderer]) -> None:
    texts = {Path(path).name: text for path, text in Result(renderers["el-7"], "recipe").texts.items()}
    for file, lines in RECIPE.items():
        if file in ("services", "keys", "copies"):
            continue
        written = [re.sub(r"[\s=:\"]+", " ", line).strip() for line in texts[file].splitlines()]
        wanted = lines if isinstance(lines, list) else [f"{name} {value}" for name, value in lines.items()]
        if file in ("opendkim.conf", "SigningTable"):  # OpenDKIM's tables are looked up by name, README says why
            wanted = [line.replace("refile:", "file:").removeprefix("*@") for line in wanted]
        assert [line for line in wanted if re.sub(r"[\s=:\"]+", " ", line).strip() not in written] == [], file


def test_every_platform_is_rendered_and_every_room_says_where_its_facts_come_from() -> None:
    platforms = {name: facts for name, facts in PLATFORMS.items() if not name.startswith("_")}
    assert set(GRAINS) == set(platforms)
    for name, facts in platforms.items():
        for room in ("postfix", "saslauthd", "clamav", "opendkim"):
            assert facts[room]["source"], f"{name}: {room}"
        assert facts["proof"] == "applied" or facts["unconfirmed"], name
    names = [name for facts in platforms.values() for name in facts["names"]]
    assert len(names) == len(set(names))


def test_every_platform_is_found_by_its_grains(renderers: dict[str, Renderer], monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name: renderer.state.functions["smtpout.platform"]() for name, renderer in renderers.items()}
    assert found == {name: name for name in GRAINS}
    leap = renderers["leap-15.6"].state.functions
    monkeypatch.setitem(leap.pack["__grains__"], "os", "openSUSE Leap")  # Salt 3008 no longer says SUSE and Leap
    monkeypatch.setitem(leap.pack["__grains__"], "osfullname", "openSUSE Leap")
    assert leap["smtpout.platform"]() == "leap-15.6"
