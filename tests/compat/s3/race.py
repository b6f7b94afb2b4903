"""Shows that an S3 server can carry a log: race.py HOST:PORT BUCKET KEY SECRET.

Eight clients race to create one key, 25 rounds: exactly one may win, and its bytes stand there.
"""

import sys
import threading

from signed import Server

CLIENTS = 8
ROUNDS = 25


def one_round(server: Server, path: str) -> str | None:
    """What went wrong, or nothing."""
    barrier = threading.Barrier(CLIENTS)
    statuses = [0] * CLIENTS

    def create(client: int) -> None:
        barrier.wait()
        body = f"client {client}".encode() * 100
        statuses[client], _ = server.request("PUT", path, body, {"If-None-Match": "*"})

    threads = [threading.Thread(target=create, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [client for client, status in enumerate(statuses) if status == 200]
    if len(winners) != 1 or any(status not in (200, 409, 412) for status in statuses):
        return f"statuses {statuses}"
    expected = f"client {winners[0]}".encode() * 100
    status, got = server.request("GET", path)
    if (status, got) != (200, expected):
        return f"read {status}, and not the winner's bytes"
    status, got = server.request("GET", path, more={"Range": "bytes=8-15"})
    if (status, got) != (206, expected[8:16]):
        return f"ranged read {status} {got!r}"
    return None


def main() -> int:
    address, bucket, access, secret = sys.argv[1:5]
    server = Server(address, access, secret)
    for number in range(ROUNDS):
        wrong = one_round(server, f"/{bucket}/race/{number}")
        if wrong:
            print(f"  FAIL  racing creates, round {number}: {wrong}", file=sys.stderr)
            return 1
    print(f"  ok    racing creates: {CLIENTS} clients, {ROUNDS} rounds, one winner each")
    return 0


if __name__ == "__main__":
    sys.exit(main())
