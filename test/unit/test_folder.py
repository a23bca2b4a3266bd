"""What is tried aside has a folder of its own, and what a killed run leaves there the next one clears away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from smtpout_core import folder
from support import REPOSITORY

# A run that works in its folder until it is killed.
RUN = """
import sys, time
from smtpout_core import folder
with folder.private(sys.argv[1]) as path:
    print(path, flush=True)
    time.sleep(600)
"""


def started(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, parent],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "_utils")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout
    return run, Path(run.stdout.readline().strip())


def test_a_folder_is_private_and_ends_with_its_use(tmp_path: Path) -> None:
    with folder.private(str(tmp_path)) as path:
        assert os.stat(path).st_mode & 0o777 == 0o700
        Path(path, "file").write_text("secret", encoding="utf-8")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_is_cleared_away_and_a_living_one_is_not(tmp_path: Path) -> None:
    (killed, left), (living, used) = started(tmp_path), started(tmp_path)
    try:
        (left / "file").touch()
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert left.exists()
        with folder.private(str(tmp_path)) as path:
            assert sorted(tmp_path.iterdir()) == sorted([used, Path(path)])
    finally:
        for run in (killed, living):
            run.kill()
            run.communicate()


def test_what_others_put_under_the_name_stays(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    (tmp_path / ".smtpout-aside.file").touch()
    (tmp_path / ".smtpout-aside.link").symlink_to(own)
    (tmp_path / ".smtpout-aside.open").mkdir(mode=0o755)
    before = sorted(tmp_path.iterdir())
    folder.sweep(str(tmp_path))
    assert sorted(tmp_path.iterdir()) == before
