"""Concatenates text files below FOLDER, in order of name, up to MIB: make_log.py FOLDER MIB OUT.

Several passes if one is too short, each with a line that says so, so that no two are the same.
"""

import os
import sys

LONGEST_LINE = 500_000


def files(folder: str) -> list[str]:
    found = []
    for root, folders, names in os.walk(folder):
        folders.sort()
        found += [os.path.join(root, name) for name in names if name.endswith((".rs", ".md", ".c", ".h"))]
    return sorted(found)


def main() -> int:
    folder, size, out = sys.argv[1], int(sys.argv[2]) << 20, sys.argv[3]
    paths = files(folder)
    if not paths:
        print(f"no text files below {folder}", file=sys.stderr)
        return 1
    written, number = 0, 0
    with open(out, "wb") as log:
        while written < size:
            number += 1
            written += log.write(f"== pass {number}\n".encode())
            for path in paths:
                with open(path, "rb") as source:
                    lines = source.read().splitlines()
                text = b"\n".join(line for line in lines if len(line) <= LONGEST_LINE) + b"\n"
                written += log.write(text)
                if written >= size:
                    break
    return 0


if __name__ == "__main__":
    sys.exit(main())
