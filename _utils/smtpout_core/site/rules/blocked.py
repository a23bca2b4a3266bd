"""Who is blocked: nobody without whom the relay, or whoever has to be reached, would be cut off."""

from __future__ import annotations

import ipaddress
from typing import Any

from smtpout_core.site.addresses import HAVE_TO_BE
from smtpout_core.site.blocked import CLASS, PARAMETER
from smtpout_core.site.rules.clients import HERE
from smtpout_core.site.rules.finding import Found, Rule, Site


def _clients(site: Site, _facts: dict[str, Any]) -> Found:
    """Programs on the relay come in over loopback, and so does what asks it whether it serves."""
    here = [ipaddress.ip_network(each) for each in HERE]
    for index, written in enumerate(site["blocked"]["clients"]):
        network = ipaddress.ip_network(written)
        if any(own.version == network.version and own.overlaps(network) for own in here):
            yield f"blocked:clients:{index}", written, "has the relay's own address in it (loopback); leave that out"


def _addresses(site: Site, facts: dict[str, Any]) -> Found:
    """A domain has a postmaster (RFC 5321, 4.5.1), in whose name the relay is asked what it does, too."""
    own = {*map(str.lower, site["domains"]), str(site.get("hostname") or facts["grains"]["fqdn"]).lower()}
    for kind in ("senders", "recipients"):
        for index, written in enumerate(site["blocked"][kind]):
            local, _, domain = written.lower().rpartition("@")
            if domain not in own:
                continue
            if not local:
                yield f"blocked:{kind}:{index}", written, "is all of a domain of the site's; right is a single address"
            elif local.partition("+")[0] in HAVE_TO_BE:
                right = "can't be blocked: a domain has to have it (RFC 5321, 4.5.1; RFC 2142); leave it out"
                yield f"blocked:{kind}:{index}", written, right


def _native(site: Site, _facts: dict[str, Any]) -> Found:
    """What main.cf is told besides must not hide them. By command anybody may be blocked: by the class."""
    main = site["postfix"]["main"]
    own = [name for name, value in main.items() if not isinstance(value, dict)]
    looked_up = [PARAMETER, "smtpd_end_of_data_restrictions"]
    hidden = dict.fromkeys(looked_up, "smtpout:blocked says") if any(site["blocked"].values()) else {}
    if not {*looked_up} <= {*own}:  # without its class, Postfix would answer 451 once anybody is blocked
        hidden |= dict.fromkeys(["smtpd_restriction_classes", CLASS], "accounts are blocked by")
    for name in [name for name in own if name in hidden]:
        yield f"postfix:main:{name}", main[name], f"hides what {hidden[name]}; use prepend or append"


RULES: list[Rule] = [
    (_clients, ("blocked:clients",)),
    (_addresses, ("domains", "hostname", "blocked:senders", "blocked:recipients")),
    (_native, ("blocked", "postfix:main")),
]
