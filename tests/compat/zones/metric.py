"""metric.py ADMIN_PORT NAME : the sum of a metric of the broker at that port."""

import sys
import urllib.request

with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics", timeout=10) as page:
    lines = page.read().decode().splitlines()
print(sum(int(float(line.split()[-1])) for line in lines if line.split("{")[0].split(" ")[0] == sys.argv[2]))
