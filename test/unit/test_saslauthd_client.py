"""Whether Postfix could use saslauthd's socket; ``daemon`` is a user and a group of every Debian."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


@pytest.fixture
def mux() -> Iterator[Path]:
    """Return a socket that anybody may use who may enter its directory, which is for root and the group daemon."""
    with tempfile.TemporaryDirectory(prefix="sasl-") as directory, socket.socket(socket.AF_UNIX) as listener:
        path = Path(directory, "mux")
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o777)
        shutil.chown(directory, group="daemon")
        path.parent.chmod(0o710)
        yield path


def test_a_user_outside_the_group_is_a_fault(modules: Any, mux: Path) -> None:
    (fault,) = modules["saslauthd.client_faults"](str(mux), "nobody")
    assert fault == f"nobody may not use {mux}: add it to the group daemon of {mux.parent} and restart Postfix"


def test_a_user_of_the_group_is_none(modules: Any, mux: Path) -> None:
    assert modules["saslauthd.client_faults"](str(mux), "daemon") == []


def test_an_smtpd_older_than_its_group_is_a_fault(modules: Any, mux: Path) -> None:
    smtpd = shutil.copy2("/bin/sleep", mux.parent / "smtpd")
    with (
        subprocess.Popen([smtpd, "60"], user="daemon", group="daemon", extra_groups=[]) as new,
        subprocess.Popen([smtpd, "60"], user="daemon", group="nogroup", extra_groups=[1]) as in_another,
    ):
        assert modules["saslauthd.client_faults"](str(mux), "daemon") == []
        mux.parent.chmod(0o711)
        with subprocess.Popen([smtpd, "60"], user="daemon", group="nogroup", extra_groups=[]) as old:
            try:
                (fault,) = modules["saslauthd.client_faults"](str(mux), "daemon")
            finally:
                for process in (old, new, in_another):
                    process.kill()
    assert fault == f"smtpd processes {old.pid} were started before daemon got its groups: restart Postfix"


def test_a_user_that_is_not_there_is_an_error(modules: Any, mux: Path) -> None:
    with pytest.raises(CommandExecutionError, match="There is no user nopostfix"):
        modules["saslauthd.client_faults"](str(mux), "nopostfix")
