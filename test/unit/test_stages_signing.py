"""What the site's settings come to with what is remembered of its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from minions import Settings
from smtpout_core.daemons.opendkim import keys as private
from smtpout_core.stages import signing
from smtpout_core.stages.record import ACTIVE, REMOVED, Key, Record

Site = dict[str, Any]
DAY = 86400
D = "domain01.dom"


def test_a_shared_key_is_not_renewed_by_the_calendar(site: Site, settings: Settings, tmp_path: Path) -> None:
    private.generate_key(str(tmp_path / "key"))
    old = [Key(D, "default", f"/etc/opendkim/keys/{D}.default.private", ACTIVE, 0)]
    for own, wants in (({}, 2), ({D: {"private_key": (tmp_path / "key").read_text()}}, 1)):
        made = settings({**site, "domains": [D], "opendkim": {"rotate": "monthly", "domains": own}})
        assert len(signing.wanted(made, old, 1_800_000_000)[D]) == wants


def test_settings_are_laid_over_with_what_signs_and_know_what_the_pillar_wants(site: Site, settings: Settings) -> None:
    made = settings({**site, "domains": [D], "hostname": f"relay.{D}"})
    kept = [Key(D, "old", "/keys/old", ACTIVE, 1), Key(D, "gone", "/keys/gone", REMOVED, 1)]
    laid = signing.laid(made, kept)
    (key,) = laid["opendkim"]["signing_keys"]
    assert (key["selector"], key["path"], key["from_pillar"], key["signs"]) == (
        "old", "/keys/old", False, [D, f"relay.{D}"]
    )  # fmt: skip
    assert [each["path"] for each in laid["opendkim"]["keys"]] == ["/keys/old"]
    assert signing.laid(laid, kept) == laid
    back = signing.laid(laid, [Key(D, "default", made["opendkim"]["signing_keys"][0]["path"], ACTIVE, 1)])
    assert back["opendkim"] == made["opendkim"]


@pytest.mark.parametrize(
    ("lifetime", "days"),
    [(None, 14), ("1d", 14), ("30d", 30), (15, 15), ("3w", 21), ("1300000", 1300000), ("1300000s", 16), ("$x", 14)],
)
def test_a_record_is_needed_as_long_as_mail_waits_in_the_queue(
    lifetime: Any, days: int, site: Site, settings: Settings
) -> None:
    site["postfix"] = {"main": {} if lifetime is None else {"maximal_queue_lifetime": lifetime}}
    made = settings(site)
    assert made["opendkim"]["retire_days"] == days
    assert signing.rules(made).retire == days * DAY


def test_settings_follow_a_stage_that_moves_on_the_way(settings: Settings, site: Site) -> None:
    functions = settings.functions  # type: ignore[attr-defined]
    before = settings(site)
    kept = Record(functions.opts["smtpout_state_dir"])
    kept.write([Key(D, "old", "/keys/old", ACTIVE, 1)])
    try:
        assert settings(site)["opendkim"]["signing_keys"][0]["selector"] == "old"
        kept.write([Key(D, "newer", "/keys/newer", ACTIVE, 1)])
        assert settings(site)["opendkim"]["signing_keys"][0]["selector"] == "newer"
        kept.path.write_text("half")
        assert settings(site) == before
    finally:
        kept.path.unlink()
    assert settings(site) == before
