"""SELinux is told of moved keys and ports, and forgets them again.

No host with SELinux can be had here: the tools are small scripts that answer in the words of the real ones
(policycoreutils 3.4 with a policy store, restorecon(8)) and keep what they are told in files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from minions import GRAINS, apply
from salt import loader
from smtpout_core.change.memory import Memory
from support import minion_opts

SEMANAGE = """#!/bin/sh
cd {store} || exit
case "$1 $2" in
"port --list")
    echo "http_cache_port_t              tcp      3128, 8080, 8118, 10001-10010"
    echo "unreserved_port_t              tcp      1024-65535"
    echo "milter_port_t                  tcp      8890, 8891, 8893"
    echo "unreserved_port_t              udp      1024-65535"
    for port in port-*; do if [ -e "$port" ]; then echo "$(cat "$port") tcp ${{port#port-}}"; fi; done ;;
"port --add") echo "$4" >"port-$7" ;;
"port --delete") rm "port-$5" ;;
"fcontext --add") echo "$4" >"label-$(echo "$5" | tr -d '\\\\' | tr / _)" ;;
"fcontext --delete") rm "label-$(echo "$3" | tr -d '\\\\' | tr / _)" ;;
"boolean --list") echo "antivirus_use_jit              ($(cat jit)  ,  $(cat jit))  Allow antivirus to use jit" ;;
"boolean --modify") echo "${{3#--}}" >jit ;;
*) echo "ValueError: $*" >&2; exit 1 ;;
esac
"""
MATCHPATHCON = """#!/bin/sh
cd {store} || exit
shift
for path; do
    rule=label-$(echo "$path" | tr / _)
    if [ -e "$rule" ]; then echo "system_u:object_r:$(cat "$rule"):s0"
    else case $path in
        /etc/opendkim/keys/*) echo system_u:object_r:dkim_milter_private_key_t:s0 ;;
        *) echo system_u:object_r:var_t:s0 ;;
    esac; fi
done
"""
RESTORECON = """#!/bin/sh
cd {store} || exit
if [ "$1" = -n ]; then
    shift 2
    for path; do if [ ! -e relabelled ]; then echo "Would relabel $path from a:b:c_t:s0 to a:b:d_t:s0"; fi; done
else touch relabelled; fi
"""
WANTED: dict[str, Any] = {
    "labels": {
        "/etc/opendkim/keys/a.private": "dkim_milter_private_key_t",
        "/srv/b.private": "dkim_milter_private_key_t",
    },
    "ports": {"8891": "milter_port_t", "8892": "milter_port_t"},
    "booleans": {"antivirus_use_jit": True},
}
CHANGES = {
    "label /srv/b.private": {"old": "var_t", "new": "dkim_milter_private_key_t"},
    "port 8892": {"old": "", "new": "milter_port_t"},
    "boolean antivirus_use_jit": {"old": "off", "new": "on"},
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return where the stand-ins keep what they are told."""
    path = tmp_path / "store"
    path.mkdir()
    (path / "jit").write_text("off\n", encoding="utf-8")
    return path


@pytest.fixture
def modules(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the execution functions of a minion whose SELinux tools are the stand-ins."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {"semanage": SEMANAGE, "matchpathcon": MATCHPATHCON, "restorecon": RESTORECON}.items():
        (tools / name).write_text(text.format(store=store), encoding="utf-8")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    return loader.minion_mods(minion_opts(tmp_path, grains=GRAINS, smtpout_state_dir=str(tmp_path / "state")))


@pytest.mark.parametrize(("test", "result"), [(True, None), (False, False)])
def test_before_its_tools_are_there_a_dry_run_says_that_it_could_not_ask(
    modules: Any, tmp_path: Path, test: bool, result: bool | None
) -> None:
    for tool in (tmp_path / "bin").iterdir():
        tool.unlink()
    for function, arguments in (("known", WANTED), ("labelled", {"paths": [str(tmp_path)]})):
        ret = apply(modules, f"selinux_policy.{function}", test=test, **arguments)
        assert (ret["result"], ret["changes"]) == (result, {})
        assert ("Not checked: what SELinux's policy says: " in str(ret.get("warnings"))) is test


def told(store: Path) -> dict[str, str]:
    """Return what the stand-ins were told."""
    return {path.name: path.read_text(encoding="utf-8").strip() for path in store.iterdir()}


def test_the_policy_learns_what_it_does_not_say_already(modules: Any, store: Path, tmp_path: Path) -> None:
    dry = apply(modules, "selinux_policy.known", test=True, **WANTED)
    assert (dry["result"], dry["changes"]) == (None, CHANGES)
    assert told(store) == {"jit": "off"}
    assert not (tmp_path / "state").exists()

    done = apply(modules, "selinux_policy.known", **WANTED)
    assert (done["result"], done["changes"]) == (True, CHANGES)
    assert told(store) == {
        "jit": "on",
        "port-8892": "milter_port_t",
        "label-_srv_b.private": "dkim_milter_private_key_t",
    }
    again = apply(modules, "selinux_policy.known", **WANTED)
    assert (again["result"], again["changes"]) == (True, {})


def test_while_another_run_is_at_work_the_policy_stays(modules: Any, store: Path, tmp_path: Path) -> None:
    with Memory(str(tmp_path / "state")).locked():
        for function, arguments in (("known", WANTED), ("forgotten", {})):
            ret = apply(modules, f"selinux_policy.{function}", **arguments)
            assert (ret["result"], ret["changes"]) == (False, {})
            assert "Another run is changing this relay." in ret["comment"]
    assert told(store) == {"jit": "off"}


def test_it_forgets_what_was_changed_and_nothing_else(modules: Any, store: Path, tmp_path: Path) -> None:
    (store / "port-8894").write_text("milter_port_t\n", encoding="utf-8")
    apply(modules, "selinux_policy.known", **WANTED)
    dry = apply(modules, "selinux_policy.forgotten", test=True)
    assert (dry["result"], sorted(dry["changes"])) == (None, sorted(CHANGES))
    done = apply(modules, "selinux_policy.forgotten")
    assert (done["result"], sorted(done["changes"])) == (True, sorted(CHANGES))
    assert told(store) == {"jit": "off", "port-8894": "milter_port_t"}
    assert not (tmp_path / "state" / "selinux.json").exists()
    assert apply(modules, "selinux_policy.forgotten")["changes"] == {}


def test_what_is_no_longer_wanted_is_taken_back(modules: Any, store: Path) -> None:
    apply(modules, "selinux_policy.known", **WANTED)
    done = apply(modules, "selinux_policy.known", **{**WANTED, "ports": {"8891": "milter_port_t"}})
    assert done["changes"] == {"port 8892": {"old": "milter_port_t", "new": ""}}
    assert "port-8892" not in told(store)


def test_what_somebody_else_changed_since_stays(modules: Any, store: Path) -> None:
    apply(modules, "selinux_policy.known", **WANTED)
    (store / "port-8892").write_text("other_port_t\n", encoding="utf-8")
    done = apply(modules, "selinux_policy.forgotten")
    assert "port 8892" not in done["changes"]
    assert told(store)["port-8892"] == "other_port_t"


def test_a_port_of_somebody_else_is_refused_before_anything_is_changed(modules: Any, store: Path) -> None:
    done = apply(modules, "selinux_policy.known", **{**WANTED, "ports": {"8080": "milter_port_t"}})
    assert (done["result"], done["changes"]) == (False, {})
    assert "port 8080 is http_cache_port_t, not milter_port_t" in done["comment"]
    assert told(store) == {"jit": "off"}


def test_a_boolean_that_the_policy_does_not_have_is_named(modules: Any) -> None:
    done = apply(modules, "selinux_policy.known", booleans={"antivirus_use_git": True})
    assert (done["result"], done["comment"]) == (False, "SELinux's policy has no boolean antivirus_use_git.")


def test_files_get_the_label_that_the_policy_has_for_them(modules: Any, store: Path, tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    paths = [str(tmp_path / "key"), str(tmp_path / "missing")]
    change = {paths[0]: {"old": "a:b:c_t:s0", "new": "a:b:d_t:s0"}}
    dry = apply(modules, "selinux_policy.labelled", test=True, paths=paths)
    assert (dry["result"], dry["changes"]) == (None, change)
    assert "relabelled" not in told(store)
    assert apply(modules, "selinux_policy.labelled", paths=paths)["changes"] == change
    assert apply(modules, "selinux_policy.labelled", paths=paths)["changes"] == {}
