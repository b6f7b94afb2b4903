#!/usr/bin/env python3
"""Writes the frame guard's tables and the messages of ours from Kafka's message definitions.

    python3 protocol/generator/generate.py kafka-clients-4.4.0.jar [FOLDER]

FOLDER is protocol/src unless told otherwise. The jar is org.apache.kafka:kafka-clients of Maven Central; it holds the definitions under
common/message/. Run by hand when a version is added; what it writes is checked in. Needs rustfmt.
"""

import pathlib
import subprocess
import sys

import definitions
import rust
import tables

# The APIs of protocol/src/api.rs.
KEYS = [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, 32, 33, 35, 37, 42,
        43, 44, 45, 46, 47, 55, 57, 60, 64, 75, 80, 81]

# Messages that the library lacks in their newest version, and those whose records it would copy.
OURS = [(0, "request"), (1, "response"), (8, "request"), (9, "request"), (18, "request"),
        (35, "response"), (42, "response")]


def main():
    jar = pathlib.Path(sys.argv[1])
    source = pathlib.Path(__file__).resolve().parent.parent / "src"
    if len(sys.argv) > 2:
        source = pathlib.Path(sys.argv[2])
    for folder in ("guard", "generated"):
        (source / folder).mkdir(parents=True, exist_ok=True)
    messages = definitions.load(jar)
    chosen = [messages[key, side] for key in KEYS for side in ("request", "response")]
    (source / "guard" / "tables.txt").write_text(tables.write(chosen, jar.name))
    for key, side in OURS:
        message = messages[key, side]
        path = source / "generated" / f"{rust.snake(message.name)}.rs"
        path.write_text(rust.write(message, jar.name))
        subprocess.run(["rustfmt", "--edition", "2024", str(path)], check=True)


if __name__ == "__main__":
    main()
