"""A Ray cluster on this machine: every node has processes, and a place in the cluster, of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

START_S = 120.0


@dataclass(frozen=True)
class RayNode:
    """A machine of the cluster, as Ray sees it."""

    process: subprocess.Popen

    def runs(self, pid: int) -> bool:
        """Whether a process descends from this node's."""
        while pid > 1:
            if pid == self.process.pid:
                return True
            pid = parent_of(pid)
        return False

    def kill(self) -> None:
        """Take it away as a power failure does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class RayCluster:
    """A head node of one core or more, and those that are added.

    As a context manager it ends them all.

    Attributes:
        address: of the cluster.
        environment: what a process needs to connect: a token, so that nobody else can.
    """

    def __init__(self, cores: int):
        self._folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # Ray's sockets need short paths
        token = Path(self._folder, "token")
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex())
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_TMPDIR": self._folder,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # other tests may run beside it
        }
        self._nodes: list[RayNode] = []
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        try:
            self._start(cores, "--head", f"--port={port}", "--include-dashboard=false")
        except BaseException:
            self.__exit__()
            raise

    def add_node(self, cores: int) -> RayNode:
        return self._start(cores, f"--address={self.address}")

    def _start(self, cores: int, *options: str) -> RayNode:
        words = ["start", "--block", *options, *options_of_small_nodes(), f"--num-cpus={cores}"]
        log = Path(self._folder, f"node{len(self._nodes)}.log")
        with log.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", *words],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=os.environ | self.environment,
                start_new_session=True,
            )
        node = RayNode(process)
        self._nodes.append(node)
        limit = time.monotonic() + START_S
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None and time.monotonic() < limit, log.read_text()
            time.sleep(0.1)
        return node

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(self, *exception: object) -> None:
        for node in self._nodes:
            if node.process.poll() is None:
                node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def options_of_small_nodes() -> list[str]:
    """Of `ray start`: no GPU, little memory, and ports that are given.

    Ray does not wait for helpers whose ports it knows; else it does for 15 s, and gives up.
    """
    names = (
        "dashboard-agent-grpc",
        "dashboard-agent-listen",
        "metrics-export",
        "runtime-env-agent",
    )
    ports = [f"--{name}-port={port}" for name, port in zip(names, free_ports(4), strict=True)]
    return [
        *ports,
        "--include-log-monitor=false",
        "--object-store-memory=100000000",
        "--num-gpus=0",
    ]


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for own in sockets:
        own.bind(("127.0.0.1", 0))
    ports = [own.getsockname()[1] for own in sockets]
    for own in sockets:
        own.close()
    return ports


def parent_of(pid: int) -> int:
    """The process that started another; 0 if that is gone. Linux."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])
