"""What is tried aside has a folder of its own, and what a killed run leaves there the next one clears away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import REPOSITORY

# A run that works in its folder until it is killed.
RUN = """
import sys, time
import aside
with aside.folder(sys.argv[1]) as folder:
    print(folder, flush=True)
    time.sleep(600)
"""


def started(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, parent],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "_modules")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout
    return run, Path(run.stdout.readline().strip())


def test_a_folder_is_private_and_ends_with_its_use(modules: dict[str, Callable[..., Any]], tmp_path: Path) -> None:
    with modules["aside.folder"](str(tmp_path)) as folder:
        assert os.stat(folder).st_mode & 0o777 == 0o700
        Path(folder, "file").write_text("secret", encoding="utf-8")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_is_cleared_away_and_a_living_one_is_not(
    modules: dict[str, Callable[..., Any]], tmp_path: Path
) -> None:
    (killed, left), (living, used) = started(tmp_path), started(tmp_path)
    try:
        (left / "file").touch()
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert left.exists()
        with modules["aside.folder"](str(tmp_path)) as folder:
            assert sorted(tmp_path.iterdir()) == sorted([used, Path(folder)])
    finally:
        for run in (killed, living):
            run.kill()
            run.communicate()


def test_what_others_put_under_the_name_stays(modules: dict[str, Callable[..., Any]], tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    (tmp_path / ".smtpout-aside.file").touch()
    (tmp_path / ".smtpout-aside.link").symlink_to(own)
    (tmp_path / ".smtpout-aside.open").mkdir(mode=0o755)
    before = sorted(tmp_path.iterdir())
    modules["aside.sweep"](str(tmp_path))
    assert sorted(tmp_path.iterdir()) == before
