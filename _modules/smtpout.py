"""The site's settings: pillar, defaults and platform facts made into one object, once a run.

Everything else of the formula gets its facts from :func:`settings`: SLS files through ``smtpout/map.jinja``, states and
templates by calling it. A pillar that isn't right comes back as ``{"valid": False, "errors": [...]}``, so that one
failing state can say all of it while other formulas of a highstate go on.
"""

from __future__ import annotations

from typing import Any

import salt.utils.files
import salt.utils.yaml
import smtpout_core
from salt.exceptions import CommandExecutionError

smtpout_core.fresh()

from smtpout_core import host
from smtpout_core import verify as relay


def settings() -> dict[str, Any]:
    """Return the site's settings: one plain dictionary, the same object for the whole run.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.settings --out=json

    The result holds secrets. ``valid`` tells whether the pillar is right; where it isn't, ``errors`` holds one sentence
    a problem, each with pillar path, value and what would be right, and nothing else is there.
    """
    given = __pillar__.get("smtpout", {})
    known = __context__.get("smtpout.settings")
    # A minion lives longer than a pillar. To compare ten thousand domains takes as long as to read them: only where
    # the pillar has been fetched anew.
    if known is None or known[0] is not given:
        site = _plain(given)
        made = known[2] if known and known[1] == site else _settings(site)
        known = __context__["smtpout.settings"] = (given, site, made)
    return known[2]


def errors() -> list[str]:
    """Return what is wrong with the pillar, one sentence a problem; an empty list where nothing is.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.errors
    """
    return settings()["errors"]


def platform() -> str:
    """Return this minion's platform as ``platforms.yaml`` names it, such as ``debian-12`` or ``el-9``.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.platform

    :return: for one that isn't listed there, what the grains call it.
    """
    names = [str(__grains__[grain]).lower() for grain in ("os", "osfullname") if grain in __grains__]
    versions = [str(__grains__[grain]) for grain in ("osrelease", "osmajorrelease") if grain in __grains__]
    said = [f"{name}-{version}" for name in names for version in versions]
    listed = {name: platform for platform, facts in _platforms().items() for name in facts["names"]}
    return next((listed[name] for name in said if name in listed), said[0] if said else "unknown")


def verify() -> list[dict[str, str]]:
    """Ask the running relay whether it does what the pillar says; each daemon is asked by its own protocol.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.verify

    :return: one ``{"check": ..., "state": "ok" | "warning" | "failed", "seen": ...}`` a check. Where one
        failed, salt-call's exit status is 1.
    :raises CommandExecutionError: the pillar isn't right, so that there is nothing to verify against.
    """
    site = settings()
    if not site["valid"]:
        raise CommandExecutionError("the pillar is not right: " + "; ".join(site["errors"]))
    checks = relay.run(site, host.minion(__opts__, __grains__, __salt__["cp.cache_file"]))
    if any(check["state"] == "failed" for check in checks):
        __context__["retcode"] = 1
    return checks


def problems(site: dict[str, Any]) -> list[dict[str, str | None]]:
    """Return what is wrong with a site that need not be this minion's, by pillar path (``pillar_schema.problems``).

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.problems '{domains: [domain01.dom], networks: [0.0.0.0/0]}'

    :param site: what stands below ``smtpout``.
    """
    schema = _document("schema.yaml")
    found = __salt__["pillar_schema.problems"](site, schema, "smtpout")
    merged = __salt__["relay_settings.merged"](__salt__["pillar_schema.defaults"](schema), site)
    return found + _contradictions(merged, _facts(), [problem["path"] for problem in found])


def import_pillar(path: str, source: str | None = None) -> dict[str, Any]:
    """Write a site pillar made from those of the formulas ``postfix``, ``opendkim`` and ``clamav`` (docs/migration.md).

    CLI Example:

    .. code-block:: bash

        salt-call smtpout.import_pillar /root/site.sls

    :param path: the new file, mode 0600, since it holds what was secret in the old pillars. One that is there stays.
    :param source: a YAML file that holds their pillars. Default, this minion's pillar.
    :return: ``carried``: where each of their keys went; ``same``: those that need no key; ``left``: why, for each other
        one; ``missing``: what the new pillar still needs. No secret is in it.
    :raises CommandExecutionError: there is nothing to convert, or the file can't be written.
    """
    pillar = _plain(__pillar__) if source is None else __salt__["pillar_import.read"](source)
    made = __salt__["pillar_convert.convert"](
        pillar, _facts(), _document("postfix/master.yaml"), _document("import.yaml")
    )
    __salt__["pillar_import.write"](path, made.pop("site"), made["missing"])
    return made


def _settings(site: Any) -> dict[str, Any]:
    """Check ``site`` and make the settings of it, or the list of what is wrong with it."""
    schema = _document("schema.yaml")
    problems = __salt__["pillar_schema.problems"](site, schema, "smtpout")
    merged = __salt__["relay_settings.merged"](__salt__["pillar_schema.defaults"](schema), site)
    platforms = _platforms()
    unknown = []
    if platform() in platforms:
        problems += _contradictions(merged, platforms[platform()], [problem["path"] for problem in problems])
    else:
        known = ", ".join(platforms)
        unknown.append(f"this platform, {platform()}, is none that smtpout knows ({known}); it is refused")
    if errors := __salt__["pillar_schema.sentences"](problems) + unknown:
        return {"valid": False, "errors": errors}
    facts = {**platforms[platform()], "platform": platform()}
    derived = __salt__["relay_settings.derived"](merged, facts, _document("postfix/master.yaml"))
    return {"valid": True, "errors": [], **derived}


def _platforms() -> dict[str, Any]:
    """Return the facts of every platform that is known."""
    return {name: facts for name, facts in _document("platforms.yaml").items() if not name.startswith("_")}


def _facts() -> dict[str, Any]:
    """Return the facts of this minion's platform."""
    try:
        return _platforms()[platform()]
    except KeyError as unknown:
        raise CommandExecutionError(f"{unknown.args[0]} is no platform that smtpout knows") from None


def _document(name: str) -> dict[str, Any]:
    """Return one of the formula's YAML files, parsed once a run."""
    documents = __context__.setdefault("smtpout.documents", {})
    if name not in documents:
        path = __salt__["cp.cache_file"](f"salt://smtpout/{name}")
        if not path:
            raise CommandExecutionError(f"salt://smtpout/{name} can't be found: is the formula whole in file_roots?")
        with salt.utils.files.fopen(path, encoding="utf-8") as file:
            documents[name] = salt.utils.yaml.safe_load(file)
    return documents[name]


def _plain(value: Any) -> Any:
    """Return ``value`` as plain dictionaries and lists: Salt hands the pillar over wrapped."""
    if hasattr(value, "items"):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _contradictions(site: dict[str, Any], facts: dict[str, Any], broken: list[str]) -> list[dict[str, str | None]]:
    """Return what is wrong between keys, apart from those that are wrong by themselves."""
    stock = {"services": _document("postfix/master.yaml"), **__salt__["relay_settings.presets"]()}
    return __salt__["pillar_rules.problems"](site, {**facts, **stock}, broken)
