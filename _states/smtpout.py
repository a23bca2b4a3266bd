"""The site as a whole: its pillar is right, its packages are there, its relay does what the pillar says."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import salt.utils.files
import smtpout_core
from salt.exceptions import CommandExecutionError

smtpout_core.fresh()

from smtpout_core import command, errors, host
from smtpout_core.change import units
from smtpout_core.change.memory import Memory
from smtpout_core.daemons import descriptions, waiting
from smtpout_core.daemons.postfix import retire

# invoke-rc.d asks this script whether a package's service may start (Debian policy 9.3.3); 101 says no. Another mail
# server that gives way must be allowed to stop.
POLICY_SCRIPT = "/usr/sbin/policy-rc.d"
POLICY_TEXT = """#!/bin/sh
# Made by smtpout while it installs packages: nothing starts before it is configured.
for argument; do
    if [ "$argument" = stop ]; then exit 0; fi
done
exit 101
"""

# What a Python package is called in an import, where that is not its name.
IMPORTED_AS = {"dkimpy": "dkim", "dnspython": "dns"}


def valid(
    name: str,
    formula: str = "salt://smtpout",  # noqa: ARG001 - for salt-ssh, see there
    environment: str | None = None,
) -> dict[str, Any]:
    """Succeed when the pillar is right; otherwise say everything that is wrong with it.

    It also says how far the platform has been tried, where that is not on a host of its kind.

    :param name: the state's sentence.
    :param formula: where the formula is; salt-ssh brings what it finds there.
    :param environment: the environment that the SLS files come from.
    """
    site = __salt__["smtpout.settings"](environment)
    errors = site["errors"]
    if not errors and site["proof"] == "rendered":
        never = f"smtpout's files for {site['platform']} are kept to be read; it is never applied there."
        return _result(name, never, result=False)
    if not errors:
        ret = _result(name, "The pillar is as smtpout/schema.yaml says.")
        if site["proof"] != "applied":
            untried = (
                f"smtpout had not been applied to any host of this kind ({site['platform']}) when it was released: its "
                "files were rendered and read by the daemons' parsers. Try it on a spare host first. "
                f"Not confirmed: {site['unconfirmed']}."
            )
            ret["warnings"] = [untried]
        return ret
    count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
    lines = [f"{count} in the pillar; nothing was changed.", *(f"  {error}" for error in errors)]
    return _result(name, "\n".join(lines), result=False)


def nothing_left_behind(name: str) -> dict[str, Any]:
    """Succeed when no mail waits on the host where this site's Postfix wouldn't find it, before anything is touched.

    On a relay that is smtpout's already, what a mail system left that is no longer there is a warning.

    :param name: the state's sentence.
    """
    site = __salt__["smtpout.settings"]()
    mail = waiting.elsewhere(site)
    if not mail:
        ret = _result(name, "No mail waits anywhere else.")
        if "postfix" not in _memory().whole()["daemons"] and (others := _giving_way(site)):
            go = "would go" if __opts__["test"] else "go"
            said = f"{', '.join(others)} {go}, as Postfix can't be installed beside another mail server"
            ret["warnings"] = [f"{said}. There is no way back from that: keep elsewhere what you want of it again."]
        return ret
    lines = "".join(f"\n  {each}" for each in mail)
    taken_over = "postfix" in _memory().whole()["daemons"] and not _to_come(site)
    if taken_over and all(each.program != "Postfix" for each in mail):
        ret = _result(name, "No mail system is there that could deliver what waits elsewhere.")
        ret["warnings"] = [f"Mail waits that nobody delivers:{lines}"]
        return ret
    said = (
        f"Mail would be left behind; nothing was installed, removed or changed:{lines}\n"
        "Whoever sent it was told that it would be delivered. Have it delivered, or remove it, and apply again."
    )
    return _result(name, said, result=False)


def _to_come(site: dict[str, Any]) -> bool:
    """Tell whether Postfix is still to be installed, or another mail server's packages are to be removed."""
    installed = _installed()
    return bool(_giving_way(site)) or not all(package in installed for package in site["postfix"]["packages"])


def _giving_way(site: dict[str, Any]) -> list[str]:
    """Return the packages of another mail server that is on the host."""
    installed = _installed()
    return [package for package in site["postfix"]["conflicting"] if package in installed]


def packages_installed(
    name: str, packages: list[str], hold: str, repositories: list[str] | None = None
) -> dict[str, Any]:
    """Install what is missing of ``packages`` in one transaction; no service starts while that goes on.

    :param name: the state's sentence.
    :param packages: names of the platform's packages.
    :param hold: how a package's services are kept from starting: ``policy-rc.d`` (Debian), or ``presets`` where no
        package starts any (RPM).
    :param repositories: packages that bring the repositories of the others, such as epel-release; installed first.
    """
    try:
        with _memory().locked(__opts__["test"]):
            return _packages_installed(name, packages, hold, repositories or [])
    except (CommandExecutionError, errors.RelayError) as error:
        return _result(name, f"The packages could not be installed: {error}", result=False)


def _packages_installed(name: str, packages: list[str], hold: str, repositories: list[str]) -> dict[str, Any]:
    _remove_policy_script()
    installed = _installed()
    missing = [package for package in [*repositories, *packages] if package not in installed]
    if not missing:
        return _result(name, f"All {len(packages)} packages are installed.")
    changes = {package: {"old": "", "new": "installed"} for package in missing}
    if __opts__["test"]:
        ret = _result(name, f"Would install {', '.join(missing)}.", changes, result=None)
        return {**ret, "warnings": ["Not checked: that the host's repositories have these packages."]}
    if hold == "policy-rc.d":  # it holds while packages are installed, and not over a reboot
        units.hold(_units())
    with _services_held(hold):
        for part in (repositories, packages):
            if due := [package for package in missing if package in part]:
                __salt__["pkg.install"](pkgs=due, refresh=True)
    before, installed = installed, _installed()
    gone = [package for package in before if package not in installed]
    _brought("packages were installed", *([f"{', '.join(gone)} went"] if gone else []))
    if still_missing := [package for package in missing if package not in installed]:
        raise CommandExecutionError(f"the package manager did not install {', '.join(still_missing)}")
    changes = {package: {"old": "", "new": installed[package]} for package in missing}
    changes |= {package: {"old": before[package], "new": ""} for package in gone}
    return _result(name, f"Installed {', '.join(missing)}.", changes)


def _brought(*what: str) -> None:
    """Note for the states that follow what stays, whatever becomes of them."""
    __context__.setdefault(host.BROUGHT, []).extend(what)


def packages_removed(name: str, packages: list[str]) -> dict[str, Any]:
    """Remove what is installed of ``packages`` in one transaction; configuration files stay, as the manager has it.

    Instead of ``pkg.removed``, before whose first use Salt 3006 loads each of its 600 modules.

    :param name: the state's sentence.
    :param packages: names of the platform's packages.
    """
    try:
        with _memory().locked(__opts__["test"]):
            return _packages_removed(name, packages)
    except (CommandExecutionError, errors.RelayError) as error:
        return _result(name, f"The packages could not be removed: {error}", result=False)


def _packages_removed(name: str, packages: list[str]) -> dict[str, Any]:
    installed = __salt__["pkg.list_pkgs"]()
    if not (present := [package for package in packages if package in installed]):
        return _result(name, "None of them is installed." if packages else "There are none on this platform.")
    changes = {package: {"old": installed[package], "new": ""} for package in present}
    if __opts__["test"]:
        return _result(name, f"Would remove {', '.join(present)}.", changes, result=None)
    __salt__["pkg.remove"](pkgs=present)
    installed = __salt__["pkg.list_pkgs"]()
    if left := [package for package in present if package in installed]:
        raise CommandExecutionError(f"the package manager did not remove {', '.join(left)}")
    return _result(name, f"Removed {', '.join(present)}.", changes)


def python_packages_present(name: str, requirements: str) -> dict[str, Any]:
    """Install the Python packages that the formula's modules import into the Python that runs Salt.

    A Python that is the distribution's own is left to the distribution: salt-ssh runs with that, and brings packages.

    :param name: the state's sentence.
    :param requirements: a requirements file with pinned versions (``name==version``), as a salt:// URL.
    """
    try:
        with _memory().locked(__opts__["test"]):
            return _python_packages_present(name, _pinned(requirements))
    except errors.RelayError as error:
        return _result(name, str(error), result=False)
    except CommandExecutionError as error:
        return _result(name, f"Salt's Python lacks what the formula needs: {error}", result=False)


def _python_packages_present(name: str, wanted: dict[str, str]) -> dict[str, Any]:
    missing = [package for package in wanted if not _is_there(package)]
    if not missing:
        return _result(name, f"{', '.join(wanted)} are there.")
    if sys.prefix == "/usr":
        raise CommandExecutionError(
            f"{', '.join(missing)}; it is the distribution's own, {sys.executable}. salt-ssh brings them with "
            "thin_extra_mods, see README.md; elsewhere install the distribution's packages"
        )
    changes = {package: {"old": "", "new": wanted[package]} for package in missing}
    if __opts__["test"]:
        ret = _result(name, f"Would install {', '.join(missing)} into Salt's Python.", changes, result=None)
        return {**ret, "warnings": ["Not checked: that a package index has these packages."]}
    answer = __salt__["pip.install"](pkgs=[f"{package}=={wanted[package]}" for package in missing])
    if answer["retcode"] != 0:
        last = (answer["stderr"] or answer["stdout"]).strip().splitlines()[-1:]
        raise CommandExecutionError(f"pip: {''.join(last)}; with no way to a package index, install them by hand")
    importlib.invalidate_caches()
    _brought("packages of Salt's Python were installed")
    return _result(name, f"Installed {', '.join(missing)} into Salt's Python.", changes)


def verified(name: str) -> dict[str, Any]:
    """Ask the running relay whether it does what the pillar says (see ``smtpout.verify``).

    :param name: the state's sentence.
    """
    if __opts__["test"]:
        return _result(name, "Not checked: what the relay does, which runs its old configuration until an apply.")
    checks = __salt__["smtpout.verify"]()
    lines = [f"{check['state']}: {check['check']}: {check['seen']}" for check in checks if check["state"] != "ok"]
    failed = [check for check in checks if check["state"] == "failed"]
    passed = sum(check["state"] == "ok" for check in checks)
    ret = _result(name, "\n".join([f"{passed} of {len(checks)} checks passed.", *lines]), result=not failed)
    ret["warnings"] = [f"{check['check']}: {check['seen']}" for check in checks if check["state"] == "warning"]
    return ret


def queue_empty(name: str, delete: bool = False) -> dict[str, Any]:
    """Succeed when no mail is in the queue but what leaves within seconds, so that nothing is lost when Postfix goes.

    :param name: the state's sentence.
    :param delete: mail may be lost.
    """
    try:
        found = retire.waiting(__salt__["smtpout.settings"](), delete)
    except errors.RelayError as error:
        return _result(name, str(error), result=False)
    said = (
        "The queue is empty." if not found else f"{found} messages wait, and {'are given up' if delete else 'leave'}."
    )
    return _result(name, said)


def _result(
    name: str, comment: str, changes: dict[str, Any] | None = None, result: bool | None = True
) -> dict[str, Any]:
    """Return a state's answer."""
    return {"name": name, "result": result, "changes": changes or {}, "comment": comment}


def _memory() -> Memory:
    return Memory(host.minion(__opts__, __grains__, __salt__["cp.cache_file"]).state_dir)


def _units() -> list[str]:
    """Return the units of all of the site's daemons."""
    here = host.minion(__opts__, __grains__, __salt__["cp.cache_file"])
    return [unit for each in descriptions.described(__salt__["smtpout.settings"](), here) for unit in each.all_units]


def _installed() -> dict[str, str]:
    """Return the versions of packages by name, without those that a killed dpkg has left halfway."""
    installed = dict(__salt__["pkg.list_pkgs"]())
    if shutil.which("dpkg-query"):
        listed = command.run(["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n"], check=True)
        for package, status in (line.split(" ", 1) for line in listed.output.splitlines()):
            if status != "installed":
                installed.pop(package, None)
    return installed


@contextlib.contextmanager
def _services_held(hold: str) -> Iterator[None]:
    """Keep packages from starting their services; a site's own policy-rc.d is left alone and has its say."""
    if hold != "policy-rc.d" or os.path.lexists(POLICY_SCRIPT):
        yield
        return
    try:
        with salt.utils.files.fopen(POLICY_SCRIPT, "x", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o755)
            file.write(POLICY_TEXT)
        yield
    finally:
        _remove_policy_script()


def _remove_policy_script() -> None:
    """Remove our policy-rc.d, also one that a killed run left behind."""
    script = Path(POLICY_SCRIPT)
    if not __opts__["test"] and script.is_file() and script.read_text(encoding="utf-8") == POLICY_TEXT:
        script.unlink()


def _pinned(requirements: str) -> dict[str, str]:
    """Return the versions of a requirements file by package."""
    path = __salt__["cp.cache_file"](requirements, __context__.get(host.SALTENV))
    if not path:
        raise CommandExecutionError(f"{requirements} can't be found: is the formula whole in file_roots?")
    return dict(re.findall(r"^([\w.-]+)==(\S+)", Path(path).read_text(encoding="utf-8"), re.MULTILINE))


def _is_there(package: str) -> bool:
    """Tell whether a Python package can be imported; salt-ssh brings packages without what pip knows of them."""
    return importlib.util.find_spec(IMPORTED_AS.get(package, package)) is not None
