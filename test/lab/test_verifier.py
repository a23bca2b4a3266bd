"""kitchen.yml's verifier finds nothing wrong with the lab's relays: the command itself, as kitchen would run it."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest
from support import REPOSITORY, VERIFIER

from lab.conftest import Applied
from lab.process import run


@pytest.mark.timeout(900)
def test_kitchens_verifier_finds_nothing_wrong(applied: Applied, tmp_path: Path) -> None:
    # What testinfra calls to look into a container looks into the lab's host: docker exec CONTAINER COMMAND...
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\nshift 2\nexec {shlex.join(applied.lab.host("relay").argv([]))} "$@"\n')
    docker.chmod(0o755)
    environment = {
        # the tests' own Python
        "PATH": os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "KITCHEN_SUITE": applied.suite,
        "KITCHEN_CONTAINER_ID": "relay",
    }
    assignments = [f"{name}={value}" for name, value in environment.items()]
    done = run(["env", "--chdir", str(REPOSITORY), *assignments, "sh", "-c", VERIFIER], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
