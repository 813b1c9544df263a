"""Redis and RabbitMQ of a test's own."""

from __future__ import annotations

import os
from collections.abc import Mapping

from support import services
from support.private.server import Server, free_port, program


class Redis(Server):
    """It keeps nothing on disk: a restart forgets every message, as a flush does."""

    title = "Redis"

    def find_programs(self) -> None:
        self._server = program("redis-server", packages=services.SERVICES["redis"].packages)

    def command(self) -> list[str]:
        return [
            self._server, "--port", str(self.port), "--bind", "127.0.0.1",
            "--save", "", "--appendonly", "no", "--dir", str(self.folder),
        ]  # fmt: skip

    def ping(self) -> None:
        import redis

        with redis.Redis.from_url(self.url, socket_connect_timeout=3) as client:
            client.ping()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def flush(self) -> None:
        """Forget every message and every queue."""
        import redis

        with redis.Redis.from_url(self.url) as client:
            client.flushall()


class RabbitMQ(Server):
    """A node with its own name, data, cookie and ports. EPMD, which tells nodes where others are, is shared."""

    title = "RabbitMQ"

    def find_programs(self) -> None:
        # Debian's program in the PATH becomes another user and forgets the environment; this is what it calls.
        debian = "/usr/lib/rabbitmq/bin/rabbitmq-server"
        self._server = program(debian, "rabbitmq-server", packages=services.SERVICES["rabbitmq"].packages)

    def prepare(self) -> None:
        (self.folder / "rabbitmq.conf").write_text(f"listeners.tcp.local = 127.0.0.1:{self.port}\n")
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "env.conf").touch()  # instead of the machine's
        self._between_nodes = free_port()

    def command(self) -> list[str]:
        return [self._server, "-noinput"]

    def environment(self) -> Mapping[str, str]:
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.folder),  # where the cookie is
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_ALLOW_INPUT": "1",  # so that the script becomes the server, and signals reach it
            "RABBITMQ_NODENAME": f"cascade{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._between_nodes),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
        }

    def ping(self) -> None:
        import kombu

        with kombu.Connection(self.url, connect_timeout=3) as connection:
            connection.connect()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def delete_queue(self) -> None:
        """Celery's own, with what is in it, under whoever reads it."""
        import kombu

        with kombu.Connection(self.url) as connection:
            connection.default_channel.queue_delete("celery")
