# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL server of the test's own: from Debian's package, in a folder of its own, on a Unix socket only.

It is stopped by its own process id, and its folder is removed. The server refuses to run as root, so a root user's
test runs it as the package's user ``postgres``.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from urllib.parse import quote

import pytest

START_LIMIT_S = 60


def _binary(name: str) -> str | None:
    """Return the newest installed server program; Debian keeps them out of PATH."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(found[-1]) if found else shutil.which(name)


class PostgresServer:
    """One server. ``database()`` makes an empty database and returns its URL."""

    def __init__(self, folder: pathlib.Path, user: str | None) -> None:
        self._folder = folder
        self._user = user
        self._count = 0

    def start(self) -> None:
        """Make the cluster and start it; returns when it answers."""
        data = self._folder / "data"
        self._run("initdb", "--auth=trust", "--username=vouch", "--no-sync", "--locale=C.UTF-8", "-D", str(data))
        options = f"-c listen_addresses='' -c unix_socket_directories='{self._folder}' -c fsync=off"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(data), "-l", log, "-o", options, "-w", "-t", str(START_LIMIT_S), "start")

    def stop(self) -> None:
        """Stop it at once; what it holds is thrown away anyway."""
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "-w", "stop")

    def database(self) -> str:
        """Return the URL of a new, empty database."""
        self._count += 1
        name = f"test{self._count}"
        self._run("createdb", "-h", str(self._folder), "-U", "vouch", name)
        return f"postgresql://vouch@/{name}?host={quote(str(self._folder))}"

    def _run(self, *command: str) -> None:
        program = _binary(command[0])
        assert program is not None, f"{command[0]} is not installed"
        # Into a file: the server keeps what it inherits, so a pipe would stay open for as long as it runs.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [program, *command[1:]],
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=2 * START_LIMIT_S,
                check=False,
            )
            output.seek(0)
            assert done.returncode == 0, f"{command[0]}: {output.read().decode(errors='replace')}"


@contextlib.contextmanager
def a_server() -> Iterator[PostgresServer]:
    """Run a server; it is stopped and its folder removed at the end."""
    user = "postgres" if os.getuid() == 0 else None
    # Not below pytest's own folder: that one is closed to other users. Short: a socket's path has 107 bytes.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vouch-pg."))
    try:
        if user is not None:
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        server = PostgresServer(folder, user)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running server; skips where it is not installed, fails there in CI."""
    if _binary("initdb") is None:
        reason = "not installed: postgresql (a Debian package)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with a_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> str:
    """The URL of a store that is not made yet, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.database()
