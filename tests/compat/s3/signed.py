"""Signed S3 requests to a server of this machine, with nothing but Python: signature version 4."""

import datetime
import hashlib
import hmac
import http.client
import sys

REGION = "us-east-1"


class Server:
    def __init__(self, address: str, access: str, secret: str) -> None:
        if not address.startswith("127.0.0.1:"):
            print("refused: the server must be 127.0.0.1:PORT", file=sys.stderr)
            sys.exit(2)
        self.address, self.access, self.secret = address, access, secret

    def request(
        self, method: str, path: str, body: bytes = b"", more: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        now = datetime.datetime.now(datetime.timezone.utc)
        stamp = now.strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": self.address, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        headers["authorization"] = self.authorization(method, path, headers, digest, stamp)
        headers |= more or {}
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def authorization(
        self, method: str, path: str, headers: dict[str, str], digest: str, stamp: str
    ) -> str:
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        canonical = f"{method}\n{path}\n\n{lines}\n{names}\n{digest}"
        scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        key = f"AWS4{self.secret}".encode()
        for part in (stamp[:8], REGION, "s3", "aws4_request", f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashed}"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return (
            f"AWS4-HMAC-SHA256 Credential={self.access}/{scope}, SignedHeaders={names}, "
            f"Signature={key.hex()}"
        )
