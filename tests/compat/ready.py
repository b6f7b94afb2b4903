"""Exits with 0 if the broker's admin port says that it is ready: ready.py PORT."""

import http.client
import sys

connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=5)
connection.request("GET", "/readyz")
sys.exit(0 if connection.getresponse().status == 200 else 1)
