"""The speed of a link: two processes send each other bytes over plain TCP at the same time; to be started by mpirun."""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import threading
import time
from pathlib import Path

PORT = 45123
REPEATS = 7


def receive(connection: socket.socket, count: int) -> None:
    """Receive a number of bytes."""
    buffer = memoryview(bytearray(1 << 20))
    while count:
        count -= connection.recv_into(buffer, min(count, len(buffer)))


def both_ways(connection: socket.socket, count: int) -> float:
    """Return the seconds to send and receive a number of bytes at the same time."""
    start = time.perf_counter()
    sender = threading.Thread(target=connection.sendall, args=(bytes(count),))
    sender.start()
    receive(connection, count)
    sender.join()
    return time.perf_counter() - start


def main() -> None:
    """Measure, and write the results on rank 0."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ["PMI_RANK"])
    if rank == 0:
        with socket.create_server(("", PORT)) as server:
            connection, _ = server.accept()
    else:
        connection = connected()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    both_ways(connection, args.bytes)
    times = [both_ways(connection, args.bytes) for _ in range(REPEATS)]
    turns = [both_ways(connection, 1) for _ in range(50)]
    if rank == 0:
        told = {"seconds": statistics.median(times), "latency": statistics.median(turns)}
        args.out.write_text(json.dumps({"versions": {}, "results": {"link": {"link": told}}}))


def connected() -> socket.socket:
    """Connect to the first host as soon as it listens."""
    for _ in range(200):
        try:
            return socket.create_connection(("h0", PORT), 5)
        except OSError:
            time.sleep(0.05)
    raise SystemExit("nobody listens on h0")


if __name__ == "__main__":
    main()
