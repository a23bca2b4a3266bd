"""How the benchmark reads what its peers print, and what it tells them of the site."""

import json

import pytest
import yaml
from bench.peers import debops, formulas, salt_tally
from lab.lab import EXAMPLE
from lab.process import LabError

SITE = yaml.safe_load(EXAMPLE.read_text())["smtpout"]


def test_salt_s_states_are_counted_and_its_failures_named():
    fine = {"name": "/etc/x", "comment": "is right", "result": True, "changes": {}}
    states = [fine, fine | {"changes": {"diff": "New file"}}, fine | {"comment": "is wrong", "result": False}]
    said = json.dumps({"local": {f"state_{number}": state for number, state in enumerate(states)}})
    assert salt_tally(said) == (3, 1, ("/etc/x: is wrong",))


def test_sls_files_that_do_not_render_are_a_failure():
    assert salt_tally('{"local": ["Rendering SLS failed"]}') == (0, 0, ("Rendering SLS failed",))


def test_a_ping_has_no_states():
    assert salt_tally('{"local": true}') == (0, 0, ())


def test_ansible_s_tasks_are_counted_and_its_failures_named():
    said = """
TASK [debops.debops.postfix : Install Postfix APT packages] ********************
fatal: [relay]: FAILED! => {"attempts": 3, "changed": false, "msg": "No package matching 'postfix' is available"}

PLAY RECAP *********************************************************************
relay                      : ok=7    changed=2    unreachable=0    failed=1    skipped=1    rescued=0    ignored=0
"""
    steps, changed, failed = debops.tally(said)
    assert (steps, changed) == (7, 2)
    assert len(failed) == 1
    assert "No package matching 'postfix'" in failed[0]


@pytest.mark.parametrize("told", [formulas.pillar, debops.variables])
def test_a_peer_is_told_every_domain_for_routing_and_for_signing(told):
    few, many = (
        json.dumps(told(SITE | {"domains": domains})) for domains in (["a.example"], ["a.example", "b.example"])
    )
    assert "b.example" not in few
    assert many.count("b.example") >= 3  # whether it is the site's, where it goes, and its key


def test_a_folder_without_the_formulas_is_refused(tmp_path):
    with pytest.raises(LabError, match="no checkout of postfix-formula"):
        formulas.peer(tmp_path, SITE)
