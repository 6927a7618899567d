from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from config.embedded import postgres, running_servers
from config.embedded.account import Account, account_for
from config.embedded.postgres import EmbeddedPostgres, Installation, find_installation
from config.embedded.state import AlreadyRunning
from config.tests.conftest import state_directory
from tests.waiting import eventually

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the account")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """The state directory of the one server that most of these tests use."""
    with state_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def shared(home: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(home, durable=False) as server:
        yield server


@pytest.fixture
def server(shared: EmbeddedPostgres) -> EmbeddedPostgres:
    """It's running, whatever the test before did to it."""
    return shared.start()


def answer(url: str, question: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(question).fetchone()
        assert row is not None
        return row[0]


def test_a_new_server_has_an_empty_database_that_knows_every_letter(server: EmbeddedPostgres) -> None:
    assert answer(server.url(), "SELECT current_database()") == "waybill"
    assert answer(server.url(), "SELECT upper('é')") == "É"
    assert answer(server.url(), "SHOW wal_level") == "logical"
    assert answer(server.url(), "SHOW timezone") == "UTC"


def test_a_wrong_password_is_refused(server: EmbeddedPostgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url(), password="guessed")


def test_what_was_committed_is_there_after_a_kill_at_the_same_address(server: EmbeddedPostgres) -> None:
    url = server.url()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS it")

    server.kill()
    assert not server.running
    server.start()

    assert server.url() == url
    assert answer(url, "SELECT it FROM kept") == 42


def test_a_server_that_died_is_started_again_by_its_owner(server: EmbeddedPostgres, home: Path) -> None:
    os.kill(int((home / "postgres/data/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    assert eventually(lambda: not server.running)

    server.start()

    assert answer(server.url(), "SELECT 1") == 1


def test_a_running_server_is_found_from_its_files(server: EmbeddedPostgres, home: Path) -> None:
    assert running_servers(home).database_url == server.url()

    server.stop()

    assert running_servers(home).database_url is None


def test_the_data_has_one_server(server: EmbeddedPostgres, home: Path) -> None:
    with pytest.raises(AlreadyRunning, match=f"in use by process {os.getpid()}"):
        EmbeddedPostgres(home).start()

    assert answer(server.url(), "SELECT 1") == 1


def test_a_half_made_cluster_is_made_again(state: Path) -> None:
    (state / "postgres" / "data.new").mkdir(parents=True)
    (state / "postgres" / "data.new" / "PG_VERSION").write_text("18")
    for directory in (state, state / "postgres"):
        directory.chmod(0o711)

    with EmbeddedPostgres(state, durable=False) as server:
        assert answer(server.url(), "SELECT 1") == 1


def test_the_server_of_a_killed_launcher_ends_and_the_next_one_takes_over(state: Path) -> None:
    launch = (
        "import pathlib, sys, time; from config.embedded.postgres import EmbeddedPostgres;"
        "server = EmbeddedPostgres(pathlib.Path(sys.argv[1]), durable=False).start(); print('up', flush=True);"
        "time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-c", launch, state], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == "up\n"
        launcher.kill()

    with EmbeddedPostgres(state, durable=False) as server:
        assert answer(server.url(), "SELECT 1") == 1


@as_root
def test_root_lends_its_data_to_an_account_that_can_reach_it(server: EmbeddedPostgres, home: Path) -> None:
    assert (home / "postgres" / "data").stat().st_uid != 0


@as_root
def test_root_keeps_data_where_no_other_account_can_reach_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    try:
        account = account_for(tmp_path / "data")
    except PermissionError as error:
        pytest.skip(str(error))
    assert account.borrowed

    with EmbeddedPostgres(tmp_path, durable=False) as server:
        assert answer(server.url(), "SELECT 1") == 1
        assert (tmp_path / "postgres" / "data").stat().st_uid == 0
        assert tmp_path.stat().st_mode & 0o777 == 0o700


@as_root
def test_programs_that_the_account_cannot_reach_are_copied_to_where_it_can(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    original = find_installation(state)
    if not original.trees:
        pytest.skip("PostgreSQL of the system stays where it is")
    hidden = original.copied_to(tmp_path)
    trees = tuple(tmp_path / tree.relative_to(original.trees[0].parent.parent) for tree in original.trees)
    installation = Installation(hidden.programs, hidden.version, trees)
    monkeypatch.setattr(postgres, "installations", lambda: iter([installation]))

    with EmbeddedPostgres(state, durable=False) as server:
        assert answer(server.url(), "SELECT 1") == 1
        assert (state / "postgres" / f"programs-{installation.version}").exists()


def test_an_account_reaches_what_every_step_lets_it_enter(tmp_path: Path) -> None:
    stranger = Account(uid=os.geteuid() + 4321, gid=os.getegid() + 4321)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    assert stranger.reaches(Path("/usr/bin"))
    assert not stranger.reaches(closed)
    assert Account(os.geteuid(), os.getegid()).reaches(closed)


def test_a_machine_without_postgresql_is_told_what_to_do(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "WHEELS", ())
    monkeypatch.setattr(postgres, "SYSTEM", tmp_path)

    with pytest.raises(FileNotFoundError, match="or set DATABASE_URL"):
        EmbeddedPostgres(state).start()


def test_data_of_another_version_is_left_alone(state: Path) -> None:
    data = state / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")

    with pytest.raises(FileNotFoundError, match="was made by PostgreSQL 9"):
        EmbeddedPostgres(state).start()


@pytest.mark.parametrize("installation", list(postgres.installations()), ids=lambda one: f"{one.programs.parent}")
def test_every_installation_of_this_machine_works(
    installation: Installation, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "installations", lambda: iter([installation]))

    with EmbeddedPostgres(state, durable=False) as server:
        assert answer(server.url(), "SELECT upper('é')") == "É"
        assert str(answer(server.url(), "SHOW server_version")).startswith(str(installation.version))
