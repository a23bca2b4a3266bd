"""A domain that is signed here and delivered elsewhere: a key of its own, and nothing else of the site's."""

from __future__ import annotations

from typing import Any

from minions import Settings

NEWS = ["News.domain01.dom"]


def test_it_has_a_key_and_owners_and_no_delivery(settings: Settings, site: dict[str, Any]) -> None:
    made = settings({**site, "signed_domains": NEWS})
    assert made["valid"], made["errors"]
    keys = [key["domain"] for key in made["opendkim"]["signing_keys"]]
    assert keys == [*made["domains"], "news.domain01.dom", made["hostname"]]
    maps = made["postfix"]["maps"]
    assert maps["signed_domains"]["entries"] == {"news.domain01.dom": "OK"}
    assert not any("news.domain01.dom" in maps[name]["entries"] for name in ("own_domains", "transport_maps"))
    assert "signed_domains" not in settings(site)["postfix"]["maps"]


def test_its_key_may_be_said_as_any_others(settings: Settings, site: dict[str, Any]) -> None:
    site["opendkim"]["domains"] = {"news.domain01.dom": {"selector": "s2026"}}
    keys = settings({**site, "signed_domains": NEWS})["opendkim"]["signing_keys"]
    assert {key["domain"]: key["selector"] for key in keys}["news.domain01.dom"] == "s2026"
    (error,) = settings(site)["errors"]
    assert "or to smtpout:signed_domains where its mail is delivered elsewhere" in error


def test_one_that_is_the_sites_or_not_signed_is_refused(settings: Settings, site: dict[str, Any]) -> None:
    (error,) = settings({**site, "signed_domains": ["DOMAIN02.dom"]})["errors"]
    assert 'smtpout:signed_domains:0: "DOMAIN02.dom" is one of smtpout:domains, which are signed for, too' in error
    (error,) = settings({**site, "signed_domains": NEWS, "opendkim": {"enabled": False}})["errors"]
    assert "smtpout:signed_domains: has no effect while smtpout:opendkim:enabled is false" in error
    (error,) = settings({**site, "signed_domains": ["a.example", "A.example"]})["errors"]
    assert "is the same domain as smtpout:signed_domains:0" in error
