"""Creates a bucket on an S3 server of this machine: create_bucket.py HOST:PORT BUCKET KEY SECRET.

Signature version 4 by hand, so that nothing but Python is needed.
"""

import datetime
import hashlib
import hmac
import http.client
import sys


def sign(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def main() -> int:
    address, bucket, access, secret = sys.argv[1:5]
    if not address.startswith("127.0.0.1:"):
        print("refused: the server must be 127.0.0.1:PORT", file=sys.stderr)
        return 2
    region = "us-east-1"
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    empty = hashlib.sha256(b"").hexdigest()
    headers = {"host": address, "x-amz-content-sha256": empty, "x-amz-date": stamp}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"PUT\n/{bucket}\n\n{lines}\n{names}\n{empty}"
    scope = f"{day}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = sign(key, part)
    signature = sign(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("PUT", f"/{bucket}", headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200 and b"BucketAlreadyOwnedByYou" not in body:
        print(f"creating {bucket}: {answer.status} {body[:300]!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
