"""PostgreSQL and MariaDB of a test's own."""

from __future__ import annotations

import signal
from pathlib import Path

import sqlalchemy as sa

from support import services
from support.private.server import Server, me, program


class SqlServer(Server):
    """`url` is a database that is made with the server and has nothing in it."""

    def start(self) -> None:
        super().start()
        if self.starts == 1:
            self.execute(self.admin_url, self.new_database)

    admin_url: str
    new_database = "CREATE DATABASE cascade_test"

    def ping(self) -> None:
        self.execute(self.admin_url, "SELECT 1")

    def execute(self, url: str, statement: str) -> None:
        engine = sa.create_engine(
            url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3}
        )
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)


class PostgreSQL(SqlServer):
    title = "PostgreSQL"
    user = "postgres"  # it refuses to run as root
    to_stop = signal.SIGINT  # "fast": SIGTERM would wait until every client has left
    if_we_die = signal.SIGQUIT  # at once, and without leaving shared memory behind

    def find_programs(self) -> None:
        packages = services.SERVICES["postgresql"].packages
        folders = tuple(str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
        self._initdb = program("initdb", folders=folders, packages=packages)
        self._postgres = program("postgres", folders=folders, packages=packages)

    def prepare(self) -> None:
        self.do(
            self._initdb, "-D", str(self.folder / "data"), "-U", "postgres",
            "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip

    def command(self) -> list[str]:
        return [
            self._postgres, "-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder),
            "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200",
        ]  # fmt: skip

    @property
    def admin_url(self) -> str:  # type: ignore[override]
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/cascade_test"


class MariaDB(SqlServer):
    title = "MariaDB"
    new_database = "CREATE DATABASE cascade_test CHARACTER SET utf8mb4"

    def find_programs(self) -> None:
        packages = services.SERVICES["mariadb"].packages
        self._install = program("mariadb-install-db", "mysql_install_db", packages=packages)
        self._server = program("mariadbd", packages=packages)

    def prepare(self) -> None:
        self.do(
            self._install, "--no-defaults", f"--datadir={self.folder / 'data'}", f"--user={me()}",
            "--auth-root-authentication-method=normal", "--skip-test-db",
        )  # fmt: skip

    def command(self) -> list[str]:
        return [
            self._server, "--no-defaults", f"--datadir={self.folder / 'data'}", f"--user={me()}",
            f"--socket={self.folder / 'socket'}", f"--pid-file={self.folder / 'pid'}",
            f"--tmpdir={self.folder}",  # at its start a server removes everybody's temporary tables from there
            "--bind-address=127.0.0.1", f"--port={self.port}", "--skip-log-bin", "--skip-name-resolve",
        ]  # fmt: skip

    @property
    def admin_url(self) -> str:  # type: ignore[override]
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/"

    @property
    def url(self) -> str:
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/cascade_test?charset=utf8mb4"
