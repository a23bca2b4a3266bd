"""bin/apply: whom it refuses, how it runs Salt, and what it says afterwards."""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
SALT_CALL = str(Path(sys.executable).with_name("salt-call"))
SITE = "smtpout:\n  organisation: MYCOMPANY\n  directory:\n    bind_password: Pass2016Mail\n"


def load() -> ModuleType:
    """Return bin/apply as a module; it has no .py at its end for the one who types its name."""
    loader = importlib.machinery.SourceFileLoader("smtpout_apply", str(REPOSITORY / "bin" / "apply"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


apply = load()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a small pillar with a secret in it."""
    path = tmp_path / "site.sls"
    path.write_text(SITE)
    return path


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """Return the root of a file system that looks like a booted Debian 12."""
    root = tmp_path / "server"
    for directory in ("run/systemd/system", "etc", "var/cache"):
        (root / directory).mkdir(parents=True)
    (root / "etc/os-release").write_text('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n')
    return root


@pytest.fixture
def formula(tmp_path: Path) -> Path:
    """Return a repository whose ``smtpout`` changes one file, warns, and leaves another state as it is."""
    repository = tmp_path / "formula"
    (repository / "smtpout").mkdir(parents=True)
    target = tmp_path / "written"
    (repository / "smtpout/init.sls").write_text(
        f"The site has a file:\n  file.managed:\n    - name: {target}\n"
        "    - contents: {{ pillar['smtpout']['organisation'] }}\n"
        "The site has a directory:\n  file.directory:\n"
        f"    - name: {tmp_path}\n"
    )
    (repository / "smtpout/broken.sls").write_text(
        "This one fails:\n  test.fail_without_changes:\n    - name: first line\n    - comment: |\n"
        "        the reason\n        the remedy\n"
        "This one waits:\n  test.nop:\n    - require:\n      - test: This one fails\n"
    )
    (repository / "smtpout/unreadable.sls").write_text("{{ nowhere.to_be_found }}\n")
    return repository


def arguments(site: Path, sls: str = "smtpout", *, test: bool = False) -> argparse.Namespace:
    """Return what the command line would have been parsed to."""
    return argparse.Namespace(sites=[str(site)], sls=sls, test=test, verbose=False)


def refusal(function: Any, *given: Any, **named: Any) -> str:
    """Return the sentence with which ``function`` refuses."""
    with pytest.raises(apply.Refusal) as caught:
        function(*given, **named)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


# --- refusals ------------------------------------------------------------------------------------------------------


def test_refuses_in_one_sentence_and_with_status_2_where_the_site_is_missing() -> None:
    done = subprocess.run(
        [REPOSITORY / "bin" / "apply", "/nowhere/site.sls"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bin/apply: /nowhere/site.sls: No such file or directory.\n"


def test_refuses_a_file_that_is_no_pillar_of_this_formula(tmp_path: Path) -> None:
    other = tmp_path / "other.sls"
    other.write_text("postfix:\n  smtpout: no\n")
    assert 'no line begins with "smtpout:"' in refusal(apply.check_site, str(other))
    other.write_bytes(b"\xff\xfe\x00smtpout:")
    assert "not a text file" in refusal(apply.check_site, str(other))
    assert "Is a directory" in refusal(apply.check_site, str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        *(SITE, "# comment\n'smtpout' :\n  a: b\n", "#!py\ndef run(): ...\n", f"\ufeff{SITE}"),
        *('{"smtpout": {"organisation": "MYCOMPANY"}}', '{\n  "smtpout": {\n    "organisation": "MYCOMPANY"\n  }\n}\n'),
    ],
)
def test_takes_what_salt_could_read_as_a_pillar(tmp_path: Path, text: str) -> None:
    path = tmp_path / "site.sls"
    path.write_text(text)
    apply.check_site(str(path))


def test_takes_pillar_example() -> None:
    apply.check_site(str(REPOSITORY / "pillar.example"))


@pytest.mark.parametrize("sls", ["postfix", "smtpout.nothing", "smtpout/../../etc", "smtpout.postfix;reboot", ""])
def test_refuses_states_of_others(formula: Path, sls: str) -> None:
    assert "not part of this formula" in refusal(apply.check_sls, sls, str(formula))


@pytest.mark.parametrize("sls", ["smtpout", "smtpout.broken"])
def test_takes_the_formula_and_its_parts(formula: Path, sls: str) -> None:
    apply.check_sls(sls, str(formula))


def test_refuses_without_root(server: Path) -> None:
    assert "Only root" in refusal(apply.check_host, 1000, root=str(server))


def test_refuses_where_systemd_is_not_the_first_process(server: Path) -> None:
    (server / "run/systemd/system").rmdir()
    assert "systemd is not running" in refusal(apply.check_host, 0, root=str(server))


def test_takes_a_platform_of_platforms_yaml(server: Path) -> None:
    apply.check_host(0, root=str(server))


@pytest.mark.parametrize(
    ("os_release", "name"),
    [
        ("ID=debian\nVERSION_ID=99\n", "debian-99"),
        ('ID="opensuse-leap"\nVERSION_ID="15.5"\n', "opensuse-leap-15.5"),
        ('ID=ubuntu\nVERSION_ID="24.10"\n', "ubuntu-24.10"),
        ("# rolling\nID=arch\n", "arch-unknown"),
    ],
)
def test_refuses_a_platform_that_is_not_listed_and_names_those_that_are(
    server: Path, os_release: str, name: str
) -> None:
    (server / "etc/os-release").write_text(os_release)
    sentence = refusal(apply.check_host, 0, root=str(server))
    assert name in sentence
    assert "debian-12" in sentence


@pytest.mark.parametrize(
    "os_release",
    [
        'NAME="AlmaLinux"\nID="almalinux"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.6"\n',
        'ID="centos"\nVERSION_ID="10"\n',
        'ID=ubuntu\nVERSION_ID="24.04"\n',
        'ID="opensuse-leap"\nVERSION_ID="15.6"\n',
        'ID="amzn"\nVERSION_ID="2023"\n',
    ],
)
def test_takes_what_os_release_calls_a_platform(server: Path, os_release: str) -> None:
    (server / "etc/os-release").write_text(os_release)
    apply.check_host(0, root=str(server))


def test_refuses_a_platform_that_is_only_kept_to_be_read(server: Path) -> None:
    (server / "etc/os-release").write_text('ID="centos"\nVERSION_ID="7"\n')
    assert "el-7 are kept to be read" in refusal(apply.check_host, 0, root=str(server))


def test_platforms_are_those_of_platforms_yaml_without_the_shared_parts() -> None:
    listed = yaml.safe_load((REPOSITORY / "smtpout/platforms.yaml").read_text(encoding="utf-8"))
    assert [tuple(platform) for platform in apply.known_platforms()] == [
        (name, facts["names"], facts["proof"]) for name, facts in listed.items() if not name.startswith("_")
    ]


# --- the minion ----------------------------------------------------------------------------------------------------


def test_pillar_is_readable_by_its_owner_only_and_gone_afterwards(site: Path, server: Path) -> None:
    with apply.minion([str(site)], root=str(server)) as config:
        copies = [path for path in Path(config).rglob("*") if path.is_file() and "Pass2016" in path.read_text()]
        assert [path.name for path in copies] == ["site0.sls"]
        assert copies[0].stat().st_mode & 0o777 == 0o600
        assert Path(config).stat().st_mode & 0o777 == 0o700
        minion = json.loads((Path(config) / "minion").read_text())
        assert Path(minion["cachedir"]).stat().st_mode & 0o777 == 0o700
    assert list((server / "run").iterdir()) == [server / "run/systemd"]


def test_of_several_files_the_later_ones_are_merged_over_the_earlier(site: Path, server: Path) -> None:
    with apply.minion([str(site), str(site)], root=str(server)) as config:
        top = json.loads((Path(config) / "pillar/top.sls").read_text())
        assert top == {"base": {"*": ["site0", "site1"]}}


def test_pillar_is_gone_after_a_failure(site: Path, server: Path) -> None:
    with pytest.raises(RuntimeError), apply.minion([str(site)], root=str(server)):
        raise RuntimeError
    assert list((server / "run").iterdir()) == [server / "run/systemd"]


def test_what_a_killed_run_has_left_of_the_pillar_goes_with_the_next(site: Path, server: Path) -> None:
    script = "import os, sys; sys.path.insert(0, sys.argv[3]); from test_apply import apply\n"
    script += "with apply.minion(sys.argv[1:2], root=sys.argv[2]):\n    os._exit(9)\n"
    subprocess.run([sys.executable, "-c", script, site, server, Path(__file__).parent], check=False)
    (left,) = (server / "run").glob("smtpout-*")
    assert (left / "pillar/site0.sls").exists()
    with apply.minion([str(site)], root=str(server)):
        assert left.exists(), "it may just have been made"
    os.utime(left, (0, 0))
    with apply.minion([str(site)], root=str(server)) as used:
        os.utime(used, (0, 0))
        assert not left.exists()
        apply.sweep(str(server / "run"))
        assert Path(used).exists(), "a run is at it"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_stops_salt_and_leaves_no_pillar(site: Path, server: Path, number: signal.Signals) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_apply import apply
apply.stay_tidy()
with apply.minion([{str(site)!r}], root={str(server)!r}):
    apply.run(["sh", "-c", "echo $$ >{server}/started; exec sleep 60"], "waiting")
"""
    started = server / "started"
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        while not (started.exists() and started.read_text().strip()):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(10) == 128 + number
    assert not Path("/proc", started.read_text().strip()).exists()
    assert list((server / "run").iterdir()) == [server / "run/systemd"]


def test_progress_is_the_state_that_salt_runs_and_chatter_is_dropped(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "echo '[INFO    ] Running state [Postfix runs] at time 10:00:00.1' >&2; echo 'its second line' >&2;"
        "echo '[WARNING ] careful' >&2; echo '[INFO    ] secret' >&2; echo result; sleep 0.5; exit 3"
    )
    monkeypatch.setattr(apply, "REPEAT", 0.1)
    assert apply.run(["sh", "-c", script], "starting") == (3, "result\n", "[WARNING ] careful\n")
    assert "0 s: Postfix runs\n" in capfd.readouterr().err


# --- applying for real, with a formula of three lines --------------------------------------------------------------


def test_apply_writes_says_what_changed_and_then_nothing(
    site: Path, server: Path, formula: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "written"

    assert apply.apply(SALT_CALL, arguments(site, test=True), str(formula), str(server)) == 0
    said = capsys.readouterr().out
    assert not written.exists()
    assert f"would    The site has a file: {written}" in said
    assert re.search(r"^smtpout: would change 1 of 2 states, 0 failed, \d+\.\d s$", said.splitlines()[-1])

    assert apply.apply(SALT_CALL, arguments(site), str(formula), str(server)) == 0
    said = capsys.readouterr().out
    assert written.read_text() == "MYCOMPANY\n"
    assert said.startswith(f"  changed  The site has a file: {written}")
    assert re.search(r"^smtpout: applied, 2 states, 1 changed, 0 failed, \d+\.\d s$", said.splitlines()[-1])

    assert apply.apply(SALT_CALL, arguments(site), str(formula), str(server)) == 0
    assert re.match(r"smtpout: applied, 2 states, 0 changed, 0 failed, \d+\.\d s\n$", capsys.readouterr().out)
    assert list((server / "run").iterdir()) == [server / "run/systemd"]


def test_ask_hands_a_function_its_arguments(
    site: Path, server: Path, formula: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = arguments(site)
    asked.ask = "test.arg 'two words' key=value"
    assert apply.ask(SALT_CALL, asked, str(formula), str(server)) == 0
    assert json.loads(capsys.readouterr().out)["args"] == ["two words"]


def test_an_answer_of_several_lines_is_shown_as_such_to_a_person() -> None:
    answer = {
        "came": [],
        "how": {"/etc/a\nb": 'one "line"', "/etc/x": '--- "a"\\n\n+++ b\n', "/etc/y": "z"},
        "n": ["a\nb"],
    }
    assert apply.readable(json.dumps(answer, indent=2)).splitlines() == [
        "{",
        '  "came": [],',
        '  "how": {',
        '    "/etc/a\\nb": "one \\"line\\"",',
        '    "/etc/x":',
        '      --- "a"\\n',
        "      +++ b",
        '    "/etc/y": "z"',
        "  },",
        '  "n": [',
        "      a",
        "      b",
        "  ]",
        "}",
    ]


def test_a_failed_state_is_shown_whole_and_named_last(
    site: Path, server: Path, formula: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply.apply(SALT_CALL, arguments(site, "smtpout.broken"), str(formula), str(server)) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[:4] == [
        "  FAILED   This one fails",
        " " * 11 + "the reason",
        " " * 11 + "the remedy",
        "  not run  This one waits",
    ]
    assert said[-1].startswith('smtpout: FAILED: 1 of 2 states failed: "This one fails"; 1 not run because of that, ')


def test_a_rendering_error_is_shown_as_such(
    site: Path, server: Path, formula: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply.apply(SALT_CALL, arguments(site, "smtpout.unreadable"), str(formula), str(server)) == 1
    said = capsys.readouterr().out
    assert "'nowhere' is undefined" in said
    assert said.splitlines()[-1].startswith("smtpout: FAILED: Salt could not make the states, ")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "  networks: [unclosed\n  verify: no\n",
            "line 6: while parsing a flow sequence: did not find expected ',' or ']'",
        ),
        ("  networks: {{ 1 / 0 }}\n", "line 5: Jinja error: division by zero"),
        ("\tnetworks: no\n", "line 5: found a tab character that violates indentation"),
    ],
)
def test_a_broken_pillar_is_said_by_its_line_without_its_secrets(
    site: Path, server: Path, formula: Path, capfd: pytest.CaptureFixture[str], line: str, reason: str
) -> None:
    site.write_text(SITE + line)
    given = arguments(site)
    given.verbose = True
    assert apply.apply(SALT_CALL, given, str(formula), str(server)) == 1
    said = capfd.readouterr()
    assert said.out.splitlines()[0].strip() == f"{site}, {reason}"
    assert "Pass2016Mail" not in said.out + said.err
    holders = [path for path in server.rglob("*") if path.is_file() and b"Pass2016Mail" in path.read_bytes()]
    assert holders == []


def test_a_salt_call_that_dies_is_reported_with_its_words(
    site: Path, server: Path, formula: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "salt-call"
    broken.write_text("#!/bin/sh\necho 'ModuleNotFoundError: zmq' >&2\nexit 70\n")
    broken.chmod(0o755)
    assert apply.apply(str(broken), arguments(site), str(formula), str(server)) == 1
    said = capsys.readouterr().out
    assert "ModuleNotFoundError: zmq" in said
    assert "status 70" in said


# --- the report ----------------------------------------------------------------------------------------------------


def state(number: int, **facts: Any) -> dict[str, dict[str, Any]]:
    """Return one state's return as Salt shapes it."""
    name = f"State {number}"
    return {name: {"__id__": name, "name": name, "__run_num__": number, "result": True, "changes": {}, **facts}}


def site_state(changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the return of one of the formula's states that masks what differs."""
    facts = {"__id__": "Postfix runs", "name": "Postfix runs", "result": True, "changes": changes}
    return {"smtpout_site_|-Postfix runs_|-Postfix runs_|-runs": facts}


def below(changes: dict[str, Any], *, test: bool = True, verbose: bool = False) -> list[str]:
    """Return what is shown below the line of a state of the site."""
    _first, *lines = apply.report(site_state(changes), test, verbose)[0]
    assert all(line.startswith(" " * 11) for line in lines)
    return [line[11:] for line in lines]


def unified(count: int, hunk: str = "@@ -1,9 +1,9 @@") -> dict[str, str]:
    """Return a file's changes, of so many lines."""
    return {"diff": f"--- /etc/x\n+++ /etc/x\n{hunk}\n" + "+line\n" * count, "mode": "0644 -> 0600"}


def test_report_keeps_the_order_of_the_run_and_shows_no_values_of_another_formula() -> None:
    result = state(2, changes={"/etc/postfix/sasl": {"diff": "-old\n+Pass2016Mail"}}) | state(
        1, name="/etc/aliases", changes={"diff": "+Pass2016Mail", "mode": "0600"}
    )
    for verbose in (False, True):
        lines, closing, status = apply.report(result, False, verbose)
        assert lines == ["  changed  State 1: /etc/aliases: diff, mode", "  changed  State 2: /etc/postfix/sasl"]
        assert (closing, status) == ("applied, 2 states, 2 changed, 0 failed", 0)


def test_a_dry_run_shows_what_differs_and_an_apply_where_it_is_asked_to() -> None:
    changes = {"/etc/x": unified(1), "generation": {"old": "1", "new": "2"}, "service": "reloaded"}
    shown = ["--- /etc/x", "+++ /etc/x", "@@ -1,9 +1,9 @@", "+line"]
    assert below(changes) == shown
    assert below(changes, test=False) == []
    assert below(changes, test=False, verbose=True) == shown


def test_what_is_said_in_place_of_a_difference_names_its_file() -> None:
    gone = {"opendkim": {"/etc/opendkim.conf": {"diff": "removed"}}}
    secret = {"/etc/saslauthd.conf": {"diff": "only what is secret changed (not shown)"}}
    assert below(gone | secret) == [
        "/etc/opendkim.conf: removed",
        "/etc/saslauthd.conf: only what is secret changed (not shown)",
    ]


def test_a_table_shows_the_entries_that_go_and_come() -> None:
    table = {"added": {"a.dom": "OK"}, "removed": {"b.dom": "OK"}, "changed": {"c.dom": {"old": "1", "new": "2"}}}
    shown = ["--- /etc/t", "+++ /etc/t", "-b.dom OK", "+a.dom OK", "-c.dom 1", "+c.dom 2"]
    assert below({"/etc/t": table}) == shown
    assert below({"/etc/t": table | {"more": {"added": 3}}}) == [*shown, "... 3 more entries"]
    assert below({"/etc/t": {"files": {"/etc/t.lmdb": {"old": "missing", "new": "root:root 0644"}}}}) == []


def test_a_long_difference_is_cut_and_a_new_file_counted_unless_all_is_asked_for() -> None:
    cut = below({"/etc/x": unified(60)})
    assert cut[47:] == ["+line", "+line", "+line", "... 13 more lines; --verbose shows them"]
    new = {"/etc/x": unified(60, "@@ -0,0 +1,60 @@")}
    assert below(new) == ["/etc/x: 60 lines, and none before; --verbose shows them"]
    assert below(new, verbose=True)[3:] == ["+line"] * 60


def test_report_says_what_became_of_a_service() -> None:
    result = state(1, changes={"/etc/x": "new", "service": "restarted (x)"})
    assert apply.report(result, False, False)[0] == ["  changed  State 1: /etc/x, service restarted (x)"]


def test_report_sets_the_lines_of_a_warning_below_it() -> None:
    result = state(1, warnings=["/etc/x was changed by hand.\n--- /etc/x\n+by hand"])
    lines = apply.report(result, False, False)[0]
    assert lines == ["  warning  State 1: /etc/x was changed by hand.", " " * 11 + "--- /etc/x", " " * 11 + "+by hand"]


def test_report_shows_warnings_of_states_and_with_verbose_the_unchanged_ones() -> None:
    result = state(1, warnings=["clamd does not know SafeBrowsing"])
    assert apply.report(result, False, False)[0] == ["  warning  State 1: clamd does not know SafeBrowsing"]
    assert apply.report(result, False, True)[0][0] == "  ok       State 1"


def test_report_counts_what_is_not_proven() -> None:
    result = state(1, changes={"/etc/x": "new"}, warnings=["Not proven: Users send: there is no user", "another"])
    assert apply.report(result, False, False)[1] == "applied, 1 states, 1 changed, 0 failed, 1 not proven"


def test_report_of_a_dry_run_counts_what_would_change() -> None:
    result = state(1, result=None, changes={"/etc/postfix/main.cf": "new"}) | state(2)
    lines, closing, status = apply.report(result, True, False)
    assert lines == ["  would    State 1: /etc/postfix/main.cf"]
    assert (closing, status) == ("would change 1 of 2 states, 0 failed", 0)


def test_report_names_every_failed_state() -> None:
    result = state(1, result=False, comment="no route") | state(2, result=False, comment="refused")
    assert apply.report(result, False, False)[1:] == ('FAILED: 2 of 2 states failed: "State 1"; "State 2"', 1)


# --- bringing Salt -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("/usr/bin/python3") is None, reason="no Python of a distribution here")
def test_finds_the_distribution_s_python_only_if_new_enough() -> None:
    found = apply.find_python()
    assert found is None or found.startswith("/usr/bin/python3")
