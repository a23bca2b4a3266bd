"""A real clamd scans and a real freshclam fetches, with a signature database of the test's own."""

from __future__ import annotations

import logging
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from minions import minion
from salt.exceptions import CommandExecutionError
from smtpout_core.daemons import clamav
from smtpout_core.daemons.clamav.signatures import Signatures
from smtpout_core.errors import NotInstalledError, RelayError

# In parts, so that no scanner takes this file for the virus.
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}" + b"$EICAR-STANDARD-" + b"ANTIVIRUS-TEST-FILE!$H+H*"
SIGNATURES = f"Eicar-Signature:0:*:{EICAR.hex()}\n"

needs_clamd = pytest.mark.skipif(not shutil.which("clamd", path="/usr/sbin:/usr/bin"), reason="clamd is not installed")
needs_clamconf = pytest.mark.skipif(not shutil.which("clamconf"), reason="clamconf is not installed")
needs_freshclam = pytest.mark.skipif(not shutil.which("freshclam"), reason="freshclam is not installed")


def site(**options: Any) -> dict[str, Any]:
    """Return a site with these settings of ``smtpout:clamav``."""
    return {
        "domains": ["domain01.dom"],
        "directory": {"servers": ["ldap://127.0.0.1"], "base": "dc=x", "bind_dn": "cn=x", "bind_password": "x"},
        "delivery": {"nexthop": "smtp:[172.16.11.96]:25"},
        "clamav": options,
    }


@pytest.fixture(scope="module")
def clamd() -> Iterator[str]:
    """Return the directory of a clamd: its socket is ``clamd.ctl``, and it listens on a TCP port in ``port`` too."""
    with tempfile.TemporaryDirectory(prefix="clamd-") as name:
        directory = Path(name)
        (directory / "db").mkdir()
        (directory / "db/site.ndb").write_text(SIGNATURES, encoding="utf-8")
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        (directory / "port").write_text(str(port), encoding="utf-8")
        configuration = directory / "clamd.conf"
        configuration.write_text(
            f"Foreground yes\nDatabaseDirectory {directory}/db\nLocalSocket {directory}/clamd.ctl\n"
            f"TCPSocket {port}\nTCPAddr 127.0.0.1\nStreamMaxLength 1M\n",
            encoding="utf-8",
        )
        with subprocess.Popen(["clamd", f"--config-file={configuration}"], stdout=subprocess.DEVNULL) as process:
            try:
                for _ in range(200):
                    if (directory / "clamd.ctl").exists() and process.poll() is None:
                        break
                    time.sleep(0.05)
                yield name
            finally:
                process.kill()


@pytest.fixture
def stand_in() -> Iterator[Callable[[bytes | None], str]]:
    """Return what starts a server that gives each request the same bytes and closes, or never answers."""
    with tempfile.TemporaryDirectory(prefix="clamd-") as name, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{name}/ctl")
        listener.listen()

        def serve(answer: bytes) -> None:
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        def start(answer: bytes | None) -> str:
            if answer is not None:
                threading.Thread(target=serve, args=[answer], daemon=True).start()
            return f"unix:{name}/ctl"

        yield start
        listener.shutdown(socket.SHUT_RDWR)


@needs_clamd
class TestScanner:
    """What a real clamd answers."""

    def test_a_running_scanner_answers_on_both_kinds_of_socket(self, modules: Any, clamd: str) -> None:
        assert modules["clamav.ping"](f"unix:{clamd}/clamd.ctl") is True
        port = Path(clamd, "port").read_text(encoding="utf-8")
        assert modules["clamav.ping"](f"tcp:127.0.0.1:{port}") is True

    def test_a_virus_is_named(self, modules: Any, clamd: str) -> None:
        # A signature that isn't ClamAV's own gains .UNOFFICIAL.
        virus = modules["clamav.instream"](f"unix:{clamd}/clamd.ctl", EICAR)
        assert virus == "Eicar-Signature.UNOFFICIAL"

    def test_a_virus_is_found_in_a_message_of_many_chunks(self, modules: Any, clamd: str) -> None:
        message = b"a line of text\r\n" * 20000 + EICAR
        assert modules["clamav.instream"](f"unix:{clamd}/clamd.ctl", message) == "Eicar-Signature.UNOFFICIAL"

    @pytest.mark.parametrize("data", [b"hello", "héllo", b""])
    def test_what_is_clean_has_no_name(self, modules: Any, clamd: str, data: bytes | str) -> None:
        assert modules["clamav.instream"](f"unix:{clamd}/clamd.ctl", data) is None

    def test_what_is_too_long_to_scan_is_an_error_and_not_clean(self, modules: Any, clamd: str) -> None:
        with pytest.raises(CommandExecutionError, match="INSTREAM size limit exceeded"):
            modules["clamav.instream"](f"unix:{clamd}/clamd.ctl", b"x" * (3 << 20))


class TestNoScanner:
    """What is said when no clamd answers."""

    def test_no_socket(self, modules: Any, tmp_path: Path) -> None:
        with pytest.raises(CommandExecutionError, match="There is no socket"):
            modules["clamav.ping"](f"unix:{tmp_path}/ctl")

    def test_nothing_listens(self, modules: Any) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            with pytest.raises(CommandExecutionError, match="Nothing listens"):
                modules["clamav.ping"](f"tcp:127.0.0.1:{closed.getsockname()[1]}")

    def test_no_answer_in_time(self, modules: Any, stand_in: Callable[..., str]) -> None:
        with pytest.raises(CommandExecutionError, match=r"within 0.2 s: it still loads its signatures"):
            modules["clamav.ping"](stand_in(None), timeout=0.2)

    @pytest.mark.parametrize(
        ("answer", "said"),
        [(b"220 relay ESMTP\0", "isn't clamd"), (b"PO", "without a whole answer"), (b"", "without a whole answer")],
        ids=["another server", "cut", "none"],
    )
    def test_another_answer(self, modules: Any, stand_in: Callable[..., str], answer: bytes, said: str) -> None:
        with pytest.raises(CommandExecutionError, match=said):
            modules["clamav.ping"](stand_in(answer))

    def test_what_is_no_socket_is_refused(self, modules: Any) -> None:
        with pytest.raises(CommandExecutionError, match="right would be unix:/PATH or tcp:HOST:PORT"):
            modules["clamav.ping"]("inet:3310@127.0.0.1")


@needs_clamconf
class TestConfiguration:
    """What ClamAV's own parser says, which returns 0 whatever it finds."""

    @pytest.fixture
    def complaints(self, tmp_path: Path) -> Callable[[str, str], list[str]]:
        settings = minion(tmp_path, site())["smtpout.settings"]()
        paths = {
            "clamd": "/etc/clamav/clamd.conf",
            "freshclam": "/etc/clamav/freshclam.conf",
            "clamav-milter": "/etc/clamav/clamav-milter.conf",
        }

        def check(program: str, text: str) -> list[str]:
            staged = tmp_path / "staged"
            staged.write_text(text, encoding="utf-8")
            unit = tmp_path / "unit"
            unit.write_text("[Unit]\nConditionPathExistsGlob=\n", encoding="utf-8")
            files = {"/etc/systemd/system/smtpout.conf": str(unit), paths[program]: str(staged)}
            found = clamav.check(program, files, settings)
            assert all(complaint.startswith(f"{paths[program]}: ") for complaint in found)
            return [complaint.removeprefix(f"{paths[program]}: ") for complaint in found]

        return check

    def test_the_installed_version_says_what_it_knows(self, modules: Any) -> None:
        known = modules["clamav.known_options"]("freshclam")
        assert {"DatabaseMirror", "DatabaseCustomURL", "Bytecode"} <= set(known)
        assert "SafeBrowsing" not in known
        assert {"MilterSocket", "SupportMultipleRecipients"} <= set(modules["clamav.known_options"]("clamav-milter"))
        assert {"LocalSocket", "AlertExceedsMax"} <= set(modules["clamav.known_options"]("clamd"))

    def test_the_recipes_files_are_right_but_for_what_todays_version_dropped(self, complaints: Any) -> None:
        scan = (
            "PidFile /var/run/clamd.scan/clamd.pid\nTemporaryDirectory /var/tmp\nDatabaseDirectory /var/lib/clamav\n"
            "LocalSocket /var/run/clamd.scan/clamd.sock\nFixStaleSocket yes\nTCPSocket 3310\nTCPAddr 127.0.0.1\n"
        )
        milter = (
            "MilterSocket inet:7357@127.0.0.1\nPidFile /var/run/clamav-milter/clamav-milter.pid\n"
            "TemporaryDirectory /var/tmp\nClamdSocket tcp:127.0.0.1:3310\nOnClean Accept\nOnInfected Reject\n"
            "OnFail Accept\nRejectMsg %v virus detected\nAddHeader Replace\nSupportMultipleRecipients yes\n"
        )
        freshclam = "AllowSupplementaryGroups yes\nSafeBrowsing yes\nBytecode yes\nDatabaseMirror database.clamav.net\n"
        assert complaints("clamd", scan) == []
        assert complaints("clamav-milter", milter) == []
        assert sorted(complaints("freshclam", freshclam)) == [
            "AllowSupplementaryGroups is DEPRECATED",
            "SafeBrowsing is DEPRECATED",
        ]

    def test_every_mistake_is_named_not_only_the_first(self, complaints: Any) -> None:
        text = (
            "LocalSocket /x\nSafeBrowsing yes\nMaxThreads ten\nExample\nLogTime maybe\nStreamMaxLength 25Q\nLogSyslog\n"
        )
        said = complaints("clamd", text)
        assert said == [
            "Parse error at line 2: Unknown option SafeBrowsing",
            "Incorrect argument format for option MaxThreads",
            "Please edit the example config file /etc/clamav/clamd.conf",
            "Incorrect argument format for option LogTime",
            "Incorrect argument format for option StreamMaxLength",
            "Missing argument for option at line 7",
        ]

    def test_what_a_program_needs_is_asked_for(self, complaints: Any) -> None:
        assert complaints("clamd", "LogTime yes\n") == ["LocalSocket or TCPSocket is missing"]
        assert complaints("clamav-milter", "LogTime yes\n") == ["MilterSocket is missing", "ClamdSocket is missing"]
        assert complaints("freshclam", "LogTime yes\n") == ["DatabaseMirror or PrivateMirror is missing"]

    def test_a_proxys_password_is_in_no_log_and_no_complaint(
        self, complaints: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.NOTSET)
        said = complaints("freshclam", "DatabaseMirror x\nHTTPProxyPassword Secret-1\nHTTPProxyPort Secret-1\n")
        assert said == ["Incorrect argument format for option HTTPProxyPort"]
        assert "Secret-1" not in caplog.text

    def test_without_a_parser_nothing_is_said_to_be_right(
        self, complaints: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shutil.which", lambda *_, **__: None)
        with pytest.raises(NotInstalledError, match="clamconf"):
            complaints("clamd", "LocalSocket /x\n")


@pytest.mark.parametrize(
    ("options", "there", "missing"),
    [
        ({}, [], ["main", "daily", "bytecode"]),
        ({}, ["main.cvd", "daily.cld", "bytecode.cvd"], []),
        ({}, ["main.cvd", "main.ndb", "freshclam.dat"], ["daily", "bytecode"]),
        ({"freshclam": {"Bytecode": False}}, ["main.cvd", "daily.cvd"], []),
        ({"freshclam": {"ExtraDatabase": "securiteinfo"}}, ["main.cvd", "daily.cvd", "bytecode.cvd"], ["securiteinfo"]),
        ({"signatures": {"exclude": ["main", "daily", "bytecode"], "urls": ["file:///srv/a.ndb"]}}, [], ["a.ndb"]),
        ({"signatures": {"exclude": ["main", "daily", "bytecode"], "urls": ["file:///srv/a.ndb"]}}, ["a.ndb"], []),
    ],
)
def test_the_site_says_which_databases_must_be_there(
    tmp_path: Path, options: dict[str, Any], there: list[str], missing: list[str]
) -> None:
    database = tmp_path / "db"
    database.mkdir()
    for name in there:
        (database / name).touch()
    settings = minion(tmp_path, site(**options))["smtpout.settings"]()
    assert clamav.missing_databases(settings, str(database)) == missing


@needs_freshclam
class TestSignatures:
    """What the state does on a host that has no way out."""

    @pytest.fixture
    def host(self, tmp_path: Path) -> Path:
        (tmp_path / "db").mkdir()
        (tmp_path / "site.ndb").write_text(SIGNATURES, encoding="utf-8")
        (tmp_path / "freshclam.conf").write_text(
            f"DatabaseDirectory {tmp_path}/db\nDatabaseOwner root\nDatabaseMirror http://127.0.0.1:9\nMaxAttempts 1\n"
            f"ExcludeDatabase main\nExcludeDatabase daily\nExcludeDatabase bytecode\n"
            f"DatabaseCustomURL file://{tmp_path}/site.ndb\n",
            encoding="utf-8",
        )
        return tmp_path

    @pytest.fixture
    def signatures(self, host: Path) -> Signatures:
        """Return what a site asks for that has one source, on this host."""
        asked = {"exclude": ["main", "daily", "bytecode"], "urls": [f"file://{host}/site.ndb"]}
        settings = minion(host, site(signatures=asked))["smtpout.settings"]()
        settings["clamav"]["database_directory"] = str(host / "db")
        settings["clamav"]["freshclam"]["configuration"] = str(host / "freshclam.conf")
        return Signatures(settings)

    def test_missing_signatures_are_fetched_once(self, host: Path, signatures: Signatures) -> None:
        assert signatures.differences() == {"signatures": {"old": "no site.ndb", "new": "fetched"}}
        assert list((host / "db").iterdir()) == []
        signatures.bring()
        assert (host / "db/site.ndb").read_text(encoding="utf-8") == SIGNATURES
        assert signatures.differences() == {}

    def test_what_freshclam_says_goes_to_the_log(
        self, signatures: Signatures, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        signatures.bring()
        assert "freshclam: Downloading site.ndb" in caplog.text

    def test_a_source_that_is_not_there_is_named_with_what_to_do(self, host: Path, signatures: Signatures) -> None:
        (host / "site.ndb").unlink()
        with pytest.raises(RelayError, match=rf"(?s){host}/site.ndb missing.*smtpout:clamav:signatures"):
            signatures.bring()

    def test_a_mirror_that_cannot_be_reached_is_named_without_its_password(
        self, host: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.NOTSET)
        configuration = host / "freshclam.conf"
        text = configuration.read_text(encoding="utf-8").replace("ExcludeDatabase daily\n", "")
        configuration.write_text(text + "PrivateMirror http://user:Secret-1@127.0.0.1:9\n", encoding="utf-8")
        with pytest.raises(RelayError, match=r"exit status 11.*(Couldn't|Could not) connect to server") as error:
            clamav.update_signatures(str(configuration))
        assert "Secret-1" not in str(error.value) + caplog.text

    def test_a_download_that_takes_too_long_is_stopped(self, host: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            configuration = host / "freshclam.conf"
            text = configuration.read_text(encoding="utf-8").replace("ExcludeDatabase daily\n", "")
            text = text.replace("127.0.0.1:9", f"127.0.0.1:{silent.getsockname()[1]}")
            configuration.write_text(text, encoding="utf-8")
            with pytest.raises(RelayError, match="took more than 1 s"):
                clamav.update_signatures(str(configuration), timeout=1)

    def test_a_second_freshclam_is_refused_with_what_to_do(self, host: Path, signatures: Signatures) -> None:
        configuration = host / "freshclam.conf"
        text = configuration.read_text(encoding="utf-8")
        configuration.write_text(text + f"UpdateLogFile {host}/log\n", encoding="utf-8")
        (host / "site.ndb").rename(host / "later.ndb")
        command = ["freshclam", "-d", "--foreground=true", f"--config-file={configuration}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as service:
            try:
                for _ in range(100):
                    if (host / "log").exists():
                        break
                    time.sleep(0.05)
                with pytest.raises(RelayError, match=r"(?s)Failed to lock the log file.*stop it first"):
                    signatures.bring()
            finally:
                service.send_signal(signal.SIGTERM)
