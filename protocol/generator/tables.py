"""Writes the frame guard's field tables: one line per field, children indented under it."""

from definitions import NEVER

HEADER = """\
# Field tables of Kafka's messages: what the frame guard walks. Written by protocol/generator from
# the message definitions in {jar}, by hand, when a version is added; not edited.
# Names, types, versions and tags are facts of the protocol. Apache Kafka, whose definitions say
# them, is under the Apache License 2.0, Copyright The Apache Software Foundation.
#
# message:  request|response KEY NAME VERSIONS FLEXIBLE-FROM
# field:    NAME TYPE VERSIONS [null VERSIONS] [tag NUMBER VERSIONS], indented by its depth;
#           TYPE is a primitive or {{}} for a struct, [] before it for an array of it
"""


def write(messages, jar_name):
    lines = [HEADER.format(jar=jar_name)]
    for message in messages:
        flexible = message.flexible.low
        lines.append(
            f"{message.side} {message.key} {message.name} {message.versions} {flexible}\n"
        )
        for field in message.fields:
            write_field(field, 1, lines)
    return "".join(lines)


def write_field(field, depth, lines):
    if field.versions.empty():
        return
    kind = ("[]" if field.is_array else "") + ("{}" if field.is_struct else field.kind)
    line = f"{' ' * depth}{field.name} {kind} {field.versions}"
    if not field.nullable.empty():
        line += f" null {field.nullable}"
    if field.tag is not None and not field.tagged.empty():
        line += f" tag {field.tag} {field.tagged}"
    lines.append(line + "\n")
    for child in field.fields:
        write_field(child, depth + 1, lines)
