"""A host that loses its power in the midst of a change serves with the last whole when it is back, without Salt."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from pretend_site import Site, Work, World, kills

pytestmark = pytest.mark.timeout(300)

# A command that loses the power, with all that runs, before its nth call.
MORTAL = """#!/bin/sh
read -r left <"$HOST/left"
echo $((left - 1)) >"$HOST/left"
[ "$left" -gt 0 ] || env kill -KILL -- "-$(ps -o pgid= $$ | tr -d ' ')"
exec {command} "$@"
"""


def serving(site: Site, world: World) -> World:
    """Return of a world what a boot brings back: all of it but memberships, which the next run takes back."""
    return {path: what for path, what in world.items() if path != str(site.host.groups)}


def look(site: Site, wholes: dict[int, World], again: Work, done: World) -> None:
    """See what serves after a boot, and after the next run."""
    site.boot()
    assert serving(site, site.host.world()) == serving(site, wholes[site.generation()])
    again()
    assert site.host.world() == done
    site.tidy()


def test_an_apply_that_loses_its_power(site: Site) -> None:
    old, new, _ = site.both()
    again = site.apply(site.new)
    for _ in kills(site, again, step=5):
        look(site, {1: old, 2: new}, again, new)


def test_an_apply_that_loses_its_power_as_it_is_taken_back(site: Site) -> None:
    old = site.brought(site.old)
    again = site.apply(lambda: site.new(hostname="deaf"))
    for _ in kills(site, again, told=True, step=5):
        look(site, {1: old}, again, old)


def test_an_undoing_that_loses_its_power(site: Site) -> None:
    old = site.brought(site.old)
    for _ in kills(site, site.unmake, told=True, step=3):
        look(site, {0: site.unmade, 1: old}, site.unmake, site.unmade)


def test_a_first_apply_that_loses_its_power_serves_nothing(site: Site) -> None:
    start = site.kept("start")
    old = site.brought(site.old)
    site.again(start)
    again = site.apply(site.old)
    for _ in kills(site, again, told=True, step=5):
        look(site, {0: site.bare, 1: old}, again, old)


def cut_short(site: Site) -> World:
    """Have a run be killed once a daemon has met the new whole; return how the host was before."""
    old = site.brought(site.old)
    work = site.apply(site.new)
    start = site.kept("begin")
    at = site.first(work, lambda: "filter" in site.told())
    site.again(start)
    assert site.killed(at, work)
    return old


@pytest.mark.parametrize("command", ["mv", "cp", "rm", "sync", "systemctl"])
def test_the_power_may_fail_again_while_it_is_put_back(site: Site, command: str) -> None:
    old = cut_short(site)
    place, at, died = site.kept("start"), 0, True
    path = shutil.which(command)
    while died:
        site.again(place)
        (site.host.root / "left").write_text(f"{at}\n")
        mortal = site.host.root / "mortal" / command
        mortal.parent.mkdir()
        mortal.write_text(MORTAL.format(command=path))
        mortal.chmod(0o755)
        state = site.host.state
        done = subprocess.run(
            ["sh", state / "restore", state / "change", "boot"],
            env={**os.environ, "PATH": f"{mortal.parent}:{os.environ['PATH']}"},
            start_new_session=True,
            check=False,
        )
        died = done.returncode < 0
        shutil.rmtree(mortal.parent)
        site.boot()
        assert serving(site, site.host.world()) == serving(site, old), f"{command}, killed at {at}"
        site.host.transaction().recover()
        assert site.host.world() == old
        site.tidy()
        at += 1 if command == "sync" else 3
    assert at > 1


def test_what_could_not_be_put_back_at_boot_is_restarted_once_it_is(site: Site) -> None:
    old = cut_short(site)
    broken = site.host.root / "bin/mv"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(subprocess.CalledProcessError):
        site.boot()
    site.start()
    broken.unlink()
    assert site.host.transaction().recover() == ["A run was cut short; what was there before it serves again."]
    assert site.host.world() == old


def test_a_predictable_name_that_somebody_has_taken_is_not_followed(site: Site) -> None:
    old = cut_short(site)
    theirs = site.host.root / "theirs"
    theirs.write_text("theirs\n")
    (site.host.etc / "relay/main.cf.smtpout-back").symlink_to(theirs)
    site.boot()
    assert theirs.read_text() == "theirs\n"
    assert serving(site, site.host.world()) == serving(site, old)


@pytest.mark.parametrize("now", ["disabled", "enabled-runtime"])  # of which the next boot would know nothing
def test_a_boot_enables_only_what_is_not_enabled(site: Site, now: str) -> None:
    cut_short(site)
    site.host.unit("relay", "enabled", now)
    site.host.calls()
    site.boot()
    assert [call for call in site.host.calls() if "able" in call] == ["enable relay"]


def test_a_unit_at_boot_that_was_disabled_is_enabled_by_the_next_change(site: Site) -> None:
    site.brought(site.old)
    (site.host.root / "units/smtpout-restore.service.enabled").unlink()
    site.brought(site.new)
    assert site.host.text("units/smtpout-restore.service.enabled") == "enabled\n"


def test_the_unit_at_boot_stands_in_no_circle_with_a_sockets_service(site: Site) -> None:
    verify = shutil.which("systemd-analyze")
    if not verify:
        pytest.skip("systemd is not installed")
    site.old()
    units = site.host.root / "verified"
    (units / "multi-user.target.wants").mkdir(parents=True)
    (units / "sockets.target.wants").mkdir()
    (units / "milter.socket").write_text("[Socket]\nListenStream=/run/milter\n")
    (units / "sockets.target.wants/milter.socket").symlink_to("../milter.socket")
    (units / "milter.service").write_text("[Service]\nExecStart=/bin/true\n")
    site.host.apply()
    text = site.host.text("systemd/smtpout-restore.service")
    assert "Before=filter.service milter.service relay.service shutdown.target" in text
    restore = units / "smtpout-restore.service"
    restore.write_text(text.replace("filter.service", "milter.socket").replace(" relay.service", ""))
    (units / "multi-user.target.wants/smtpout-restore.service").symlink_to("../smtpout-restore.service")
    done = subprocess.run(
        [verify, "verify", "--man=no", "multi-user.target"],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "milter" not in done.stderr + done.stdout
    assert "cycle" not in done.stderr
