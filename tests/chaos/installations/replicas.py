"""A Redis with a replica, and Sentinels that make the replica the primary when the primary is gone."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import redis

from orchestrator.store.connection import connect_plain
from tests.harness import Process, eventually, free_port

NAME, PASSWORD, SENTINEL_PASSWORD = "main", "word", "another"
DOWN_SECONDS = 3  # a primary that a busy machine delays for a second is not gone


class ReplicatedRedis:
    """Two servers and three Sentinels on loopback, all with passwords."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "redis"
        self._ports = [free_port() for _ in range(2)]
        self._sentinel_ports = [free_port() for _ in range(3)]
        self.servers: list[Process | None] = [None, None]
        self._sentinels: list[Process] = []
        self._ended: list[Process] = []
        places = ",".join(f"127.0.0.1:{port}" for port in self._sentinel_ports)
        self.url = f"redis+sentinel://:{PASSWORD}@{places}/{NAME}/0?sentinel_password={SENTINEL_PASSWORD}"

    def start(self) -> None:
        for number in range(2):
            self.start_server(number)
        eventually(lambda: self.follows(1), "the replica follows")
        for number, port in enumerate(self._sentinel_ports):
            file = self.directory / f"sentinel-{number}.conf"
            file.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {self.directory}\nrequirepass {SENTINEL_PASSWORD}\n"
                f"sentinel monitor {NAME} 127.0.0.1 {self._ports[0]} 2\n"
                f"sentinel auth-pass {NAME} {PASSWORD}\nsentinel sentinel-pass {SENTINEL_PASSWORD}\n"
                f"sentinel down-after-milliseconds {NAME} {DOWN_SECONDS * 1000}\n"
                f"sentinel failover-timeout {NAME} 5000\n"
            )
            command = ["redis-server", str(file), "--sentinel"]
            self._sentinels.append(Process(command, {}, self.directory / f"sentinel-{number}.log"))
        for port in self._sentinel_ports:
            eventually(lambda: self._knows_all(port), "the Sentinels know each other and the replica")  # noqa: B023

    def start_server(self, number: int) -> None:
        """Start one (again); which is the primary is Sentinels' matter from the second time on."""
        home = self.directory / f"server-{number}"
        first = not home.exists()
        while self._ended:
            self._ended.pop().stop(signal.SIGKILL)
        home.mkdir(parents=True, exist_ok=True)
        file = home / "redis.conf"
        if first:  # afterwards it is as Sentinels have rewritten it
            follow = f"replicaof 127.0.0.1 {self._ports[0]}\n" if number else ""
            file.write_text(
                f"port {self._ports[number]}\nbind 127.0.0.1\ndir {home}\nrequirepass {PASSWORD}\n"
                f"masterauth {PASSWORD}\nappendonly yes\nappendfsync always\nsave ''\nmaxmemory-policy noeviction\n"
                f"repl-diskless-sync-delay 0\n{follow}"
            )
        self.servers[number] = Process(["redis-server", str(file)], {}, self.directory / f"server-{number}.log")
        eventually(lambda: self._answers(number), "redis answers")

    def end_primary(self, sig: int) -> int:
        """Kill or stop it in the midst of what is asked of it, its replica having all that it did; which it was."""
        number = next(n for n in range(2) if self.servers[n] and self.printed(n, "replication")["role"] == "master")
        with self.server(number) as client:
            client.client_pause(60_000, all=False)  # Redis begins no more writes, and blocks clients that send one
            eventually(lambda: self.caught_up(number), "the replica has caught up")
            self.end(number, sig)
        return number

    def end(self, number: int, sig: int) -> None:
        process, self.servers[number] = self.servers[number], None
        assert process is not None
        process.popen.send_signal(sig)
        self._ended.append(process)

    def end_sentinel(self) -> None:
        """End the one that is named first in the URL; the others are a majority still."""
        self._sentinels.pop(0).stop(signal.SIGKILL)

    def caught_up(self, number: int = 0) -> bool:
        """Whether the other server has all that this one has done so far."""
        here, there = (self.printed(n, "replication")["master_repl_offset"] for n in (number, 1 - number))
        return bool(there >= here)

    def follows(self, number: int) -> bool:
        """Whether that server is a replica, and in touch with its primary."""
        return self.printed(number, "replication").get("master_link_status") == "up"

    def cut_off_replica(self) -> None:
        """Have the replica follow no more, and the primary know it."""
        with self.server(1) as replica, self.server(0) as primary:
            replica.config_set("masterauth", "wrong")
            primary.client_kill_filter(_type="replica")
            eventually(lambda: self.printed(0, "replication")["connected_slaves"] == 0, "the replica is off")

    def printed(self, number: int, section: str) -> dict[str, Any]:
        with self.server(number) as client:
            found: dict[str, Any] = client.info(section)
            return found

    def server(self, number: int) -> Any:
        """A client of one server."""
        return redis.Redis(port=self._ports[number], password=PASSWORD, socket_timeout=5)

    def client(self) -> Any:
        """A client of the primary, whichever that is."""
        return connect_plain(self.url, 5)

    def stop(self, sig: int = signal.SIGTERM) -> None:
        for process in (*self._sentinels, *self.servers):
            if process is not None:
                process.stop(sig)
        for process in self._ended:
            process.stop(signal.SIGKILL)
        self._sentinels, self.servers = [], [None, None]

    def _knows_all(self, port: int) -> bool:
        with redis.Redis(port=port, password=SENTINEL_PASSWORD) as client:
            try:
                found = client.sentinel_masters()[NAME]
            except redis.exceptions.ConnectionError:
                return False
            return bool(found["num-slaves"] == 1 and found["num-other-sentinels"] == 2)

    def _answers(self, number: int) -> bool:
        try:
            with self.server(number) as client:
                return bool(client.ping())
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, redis.exceptions.BusyLoadingError):
            return False
