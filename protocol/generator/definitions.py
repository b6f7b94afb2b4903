"""Kafka's message definitions, as the kafka-clients jar carries them, in a form easy to walk.

A definition names fields and their types, versions, tags and defaults: facts of the protocol.
Their prose ("about") is left where it is.
"""

import json
import re
import zipfile
from dataclasses import dataclass, field

NEVER = 32767

SIZES = {
    "bool": 1, "int8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4,
    "int64": 8, "float64": 8, "uuid": 16,
}
BLOBS = ("string", "bytes", "records")


@dataclass(frozen=True)
class Versions:
    low: int
    high: int

    @staticmethod
    def parse(text):
        if text is None or text == "none":
            return Versions(NEVER, -1)
        if text.endswith("+"):
            return Versions(int(text[:-1]), NEVER)
        low, _, high = text.partition("-")
        return Versions(int(low), int(high or low))

    def clip(self, other):
        return Versions(max(self.low, other.low), min(self.high, other.high))

    def empty(self):
        return self.low > self.high

    def covers(self, other):
        return self.low <= other.low and other.high <= self.high

    def __str__(self):
        return f"{self.low}-{self.high}"


@dataclass
class Field:
    name: str
    kind: str               # a primitive, or the name of a struct
    is_array: bool
    versions: Versions
    nullable: Versions
    tag: int | None
    tagged: Versions
    ignorable: bool
    entity: str | None
    default: object
    fields: list = field(default_factory=list)

    @property
    def is_struct(self):
        return self.kind not in SIZES and self.kind not in BLOBS


@dataclass
class Message:
    key: int
    side: str               # "request" or "response"
    name: str
    versions: Versions
    flexible: Versions
    fields: list


def load(jar_path):
    """All requests and responses in a kafka-clients jar, by (key, side)."""
    messages = {}
    with zipfile.ZipFile(jar_path) as jar:
        for name in jar.namelist():
            if not re.fullmatch(r"common/message/\w+(Request|Response)\.json", name):
                continue
            text = jar.read(name).decode()
            raw = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.M))
            if raw["type"] not in ("request", "response") or "apiKey" not in raw:
                continue
            message = parse_message(raw)
            messages[message.key, message.side] = message
    return messages


def parse_message(raw):
    common = {s["name"]: s for s in raw.get("commonStructs", [])}
    versions = Versions.parse(raw["validVersions"])
    return Message(
        key=raw["apiKey"],
        side=raw["type"],
        name=raw["name"],
        versions=versions,
        flexible=Versions.parse(raw.get("flexibleVersions")),
        fields=[parse_field(f, versions, common) for f in raw.get("fields", [])],
    )


def parse_field(raw, parent, common):
    kind = raw["type"]
    is_array = kind.startswith("[]")
    kind = kind.removeprefix("[]")
    # A field without versions (in a tagged struct) lives as long as what holds it.
    versions = Versions.parse(raw.get("versions", "0+")).clip(parent)
    children = raw.get("fields") or common.get(kind, {}).get("fields", [])
    return Field(
        name=raw["name"],
        kind=kind,
        is_array=is_array,
        versions=versions,
        nullable=Versions.parse(raw.get("nullableVersions")).clip(versions),
        tag=raw.get("tag"),
        tagged=Versions.parse(raw.get("taggedVersions")).clip(versions),
        ignorable=raw.get("ignorable", False),
        entity=raw.get("entityType"),
        default=raw.get("default"),
        fields=[parse_field(f, versions, common) for f in children],
    )
