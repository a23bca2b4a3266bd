"""What a site promises, and which of its keys say otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from smtpout_core.site.rules.finding import Found, Rule, Site

# By promise: the key that takes it back, what that says then, and whether a site's does.
TAKEN_BACK: list[tuple[str, str, str, Callable[[Site], bool]]] = [
    ("only_users_submit", "authentication:submission", "false", lambda site: not site["authentication"]["submission"]),
    ("users_send_as_themselves", "directory:senders", "any", lambda site: site["directory"]["senders"] == "any"),
    ("authors_are_users", "directory:senders", "any", lambda site: site["directory"]["senders"] == "any"),
    (
        "passwords_are_encrypted",
        "authentication:clear_text_on_25",
        "true",
        lambda site: site["authentication"]["clear_text_on_25"],
    ),
    ("viruses_are_stopped", "clamav:enabled", "false", lambda site: not site["clamav"]["enabled"]),
    ("viruses_are_stopped", "clamav:on_infected", "Accept", lambda site: site["clamav"]["on_infected"] == "Accept"),
    ("users_stay_private", "privacy:hide_client", "false", lambda site: not any(site["privacy"].values())),
    ("users_stay_private", "authentication:submission", "false", lambda site: not site["authentication"]["submission"]),
    ("mail_is_signed", "opendkim:enabled", "false", lambda site: not site["opendkim"]["enabled"]),
    ("strangers_are_not_signed", "opendkim:enabled", "false", lambda site: not site["opendkim"]["enabled"]),
]


def not_promised(site: Site) -> set[str]:
    """Return the promises that a site takes back: by name, or by a key that says otherwise.

    :param site: its settings, or its pillar over the schema's defaults.
    """
    by_name = {name for name, kept in site["promises"].items() if not kept}
    return by_name | {name for name, _, _, otherwise in TAKEN_BACK if otherwise(site)}


def _contradictions(site: Site, _facts: dict[str, Any]) -> Found:
    for name, key, says, otherwise in TAKEN_BACK:
        if site["promises"].get(name) and otherwise(site):
            yield f"promises:{name}", True, f"and smtpout:{key}: {says} don't go together; remove one of them"


RULES: list[Rule] = [(_contradictions, ("promises", *dict.fromkeys(key for _, key, _, _ in TAKEN_BACK)))]
