"""Creates a container on an Azure server of this machine: create_container.py HOST:PORT CONTAINER.

The account and its key are $AZURE_STORAGE_ACCOUNT_NAME and $AZURE_STORAGE_ACCOUNT_KEY.
"""

import base64
import datetime
import hashlib
import hmac
import http.client
import os
import sys

VERSION = "2023-11-03"


def main() -> int:
    address, container = sys.argv[1:3]
    if not address.startswith("127.0.0.1:"):
        print("refused: the server must be 127.0.0.1:PORT", file=sys.stderr)
        return 2
    account = os.environ["AZURE_STORAGE_ACCOUNT_NAME"]
    key = base64.b64decode(os.environ["AZURE_STORAGE_ACCOUNT_KEY"])
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": now, "x-ms-version": VERSION}
    # Shared key: the verb, eleven headers that are not sent, ours, and what is asked for.
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items())]
    lines += [f"/{account}/{account}/{container}", "restype:container"]
    signature = hmac.new(key, "\n".join(lines).encode(), hashlib.sha256).digest()
    headers["authorization"] = f"SharedKey {account}:{base64.b64encode(signature).decode()}"
    headers["content-length"] = "0"
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("PUT", f"/{account}/{container}?restype=container", headers=headers)
    answer = connection.getresponse()
    if answer.status != 201:
        print(f"creating {container}: {answer.status} {answer.read()[:300]!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
