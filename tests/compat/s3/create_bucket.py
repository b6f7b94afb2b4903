"""Creates a bucket on an S3 server of this machine: create_bucket.py HOST:PORT BUCKET KEY SECRET."""

import sys

from signed import Server


def main() -> int:
    address, bucket, access, secret = sys.argv[1:5]
    status, body = Server(address, access, secret).request("PUT", f"/{bucket}")
    if status != 200 and b"BucketAlreadyOwnedByYou" not in body:
        print(f"creating {bucket}: {status} {body[:300]!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
