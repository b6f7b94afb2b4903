"""Writes the messages that the library lacks, or copies, as Rust over `codec::wire`.

The structs have the shape of kafka-protocol's: `Default`, public fields, `with_…` setters, so
that callers cannot tell whose they are.
"""

import re

from definitions import NEVER

ENTITIES = {
    "brokerId": "BrokerId", "groupId": "GroupId", "producerId": "ProducerId",
    "topicName": "TopicName", "transactionalId": "TransactionalId",
}
TYPES = {
    "bool": "bool", "int8": "i8", "int16": "i16", "uint16": "u16", "int32": "i32",
    "uint32": "u32", "int64": "i64", "float64": "f64", "uuid": "Uuid", "string": "StrBytes",
    "bytes": "Bytes", "records": "Records",
}

# What `#[derive(Default)]` gives.
ZEROES = ("Default::default()", "None", "0", "false")


def snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def element_type(field):
    return ENTITIES.get(field.entity) or TYPES.get(field.kind) or field.kind


def rust_type(field):
    inner = element_type(field)
    if field.is_array:
        inner = f"Vec<{inner}>"
    return f"Option<{inner}>" if is_option(field) else inner


def is_option(field):
    return not field.nullable.empty() or field.kind == "records"


def default(field):
    value = field.default
    if is_option(field):
        return "None" if value == "null" else "Some(Default::default())"
    if field.is_array or value is None or value == "" or field.is_struct:
        return "Default::default()"
    if field.kind == "bool":
        return str(value).lower()
    if field.kind in ("string", "bytes", "uuid"):
        raise ValueError(f"default of {field.name}")
    number = int(str(value), 0)
    return f"{ENTITIES[field.entity]}({number})" if field.entity in ENTITIES else str(number)


class Condition:
    """`version` compared with the versions of a field, as far as those of its parent leave a
    question."""

    def __init__(self, versions, parent):
        self.parts = []
        if versions.low > parent.low:
            self.parts.append(f"version >= {versions.low}")
        if versions.high < parent.high:
            self.parts.append(f"version <= {versions.high}")
        self.never = versions.empty()
        self.always = not self.parts and not self.never

    def __str__(self):
        if self.never:
            return "false"
        return " && ".join(self.parts) if self.parts else "true"


class Emitter:
    def __init__(self, message):
        self.message = message
        self.out = []

    def line(self, text=""):
        self.out.append(text)

    def emit(self):
        self.struct(self.message.name, self.message.fields, self.message.versions, top=True)
        return "\n".join(self.out) + "\n"

    def struct(self, name, fields, versions, top=False):
        fields = [f for f in fields if not f.versions.empty()]
        self.line(f"/// Versions {versions}.")
        derived = all(default(f) in ZEROES for f in fields)
        derives = "Clone, Debug, Default, PartialEq" if derived else "Clone, Debug, PartialEq"
        self.line(f"#[derive({derives})]\n#[non_exhaustive]")
        self.line(f"pub struct {name} {{")
        for f in fields:
            self.line(f"/// {describe(f)}")
            self.line(f"pub {snake(f.name)}: {rust_type(f)},")
        self.line("}\n")
        if not derived:
            self.line(f"impl Default for {name} {{ fn default() -> Self {{ Self {{")
            for f in fields:
                self.line(f"{snake(f.name)}: {default(f)},")
            self.line("} } }\n")
        self.line(f"impl {name} {{\nsetters! {{")
        for f in fields:
            member = snake(f.name)
            self.line(f"    with_{member} {member}: {rust_type(f)};")
        self.line("}\n")
        self.function(self.reader, fields, versions)
        self.function(self.writer, fields, versions)
        self.line("}\n")
        if top:
            self.wire(name)
        for f in fields:
            if f.is_struct:
                self.struct(f.kind, f.fields, f.versions)

    def function(self, write, fields, versions):
        """Leaves out what the body has no use for."""
        start = len(self.out)
        write(fields, versions)
        body = "\n".join(self.out[start:])
        if len(re.findall(r"\bflexible\b", body)) == 1:
            body = re.sub(r"let flexible = .*;\n", "", body)
        if len(re.findall(r"\bversion\b", body)) == 1:
            body = body.replace("version: i16", "_version: i16")
        self.out[start:] = [body]

    def wire(self, name):
        self.line(f"""impl Wire for {name} {{
            fn read(body: Bytes, version: i16) -> Result<Self, Source> {{
                let mut reader = Reader::new(body, 0);
                let message = Self::read_from(&mut reader, version)?;
                reader.end_of_message()?;
                Ok(message)
            }}

            fn write(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {{
                self.write_to(writer, version)
            }}
        }}
        """)

    def flexible(self, versions):
        return Condition(self.message.flexible.clip(versions), versions)

    # Reading

    def reader(self, fields, versions):
        flexible = self.flexible(versions)
        self.line("fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {")
        self.line("let mut this = Self::default();")
        self.line(f"let flexible = {flexible};")
        for f in fields:
            plain = f.versions if f.tag is None else f.versions.clip(
                type(f.versions)(f.versions.low, f.tagged.low - 1))
            condition = Condition(plain, versions)
            if condition.never:
                continue
            read = f"this.{snake(f.name)} = {self.read_value(f)};"
            self.line(read if condition.always else f"if {condition} {{ {read} }}")
        if not flexible.never:
            tagged = [f for f in fields if f.tag is not None and not f.tagged.empty()]
            self.line("if flexible {")
            if tagged:
                self.line("reader.tagged(|tag, reader| {\nmatch tag {")
                for f in tagged:
                    condition = Condition(f.tagged, versions)
                    guard = "" if condition.always else f" if {condition}"
                    self.line(f"{f.tag}{guard} => this.{snake(f.name)} = {self.read_value(f)},")
                self.line("_ => return Ok(false),\n}\nOk(true)\n})?;")
            else:
                self.line("reader.skip_tagged()?;")
            self.line("}")
        self.line("Ok(this)\n}\n")

    def read_value(self, f):
        nullable = is_option(f)
        if f.is_array:
            element = self.read_one(f, False)
            element = element[:-1] if element.endswith("?") else f"Ok({element})"
            method = "nullable_array" if nullable else "array"
            value = f"reader.{method}(flexible, |reader| {element})?"
        else:
            value = self.read_one(f, nullable)
        # Null where a version does not allow it has been refused by the guard.
        return value

    def read_one(self, f, nullable):
        if f.is_struct:
            call = f"{f.kind}::read_from(reader, version)?"
            if not nullable:
                return call
            return f"if reader.present()? {{ Some({call}) }} else {{ None }}"
        if f.kind == "records":
            return "reader.nullable_bytes(flexible)?.map(Records::from)"
        if f.kind in ("string", "bytes"):
            prefix = "nullable_" if nullable else ""
            value = f"reader.{prefix}{f.kind}(flexible)?"
        else:
            value = f"reader.{TYPES[f.kind].lower()}()?"
        if f.entity in ENTITIES:
            name = ENTITIES[f.entity]
            return f"{value}.map({name})" if nullable else f"{name}({value})"
        return value

    # Writing

    def writer(self, fields, versions):
        flexible = self.flexible(versions)
        self.line("fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {")
        self.line(f"let flexible = {flexible};")
        tagged = [f for f in fields if f.tag is not None and not f.tagged.empty()]
        if tagged:
            self.line("let mut tagged = Tagged::default();")
        for f in sorted(fields, key=lambda f: -1 if f.tag is None else f.tag):
            self.write_field(f, versions)
        if not flexible.never:
            self.line("if flexible {")
            self.line("writer.tagged(tagged)?;" if tagged else "writer.no_tagged();")
            self.line("}")
        self.line("Ok(())\n}")

    def write_field(self, f, versions):
        member = f"self.{snake(f.name)}"
        present = Condition(f.versions, versions)
        unset = comparable(f)
        is_set = {"None": f"{member}.is_some()", "false": member}.get(
            unset, f"{member} != {unset}")
        branches = []
        if f.tag is not None and not f.tagged.empty():
            tagged = Condition(f.tagged, versions)
            write = f"if {is_set} {{ let writer = tagged.field({f.tag}); {self.write_value(f)} }}"
            branches.append((str(tagged), write))
        else:
            branches.append((str(present), self.write_value(f)))
        if present.always:
            self.line(branches[0][1])
            return
        text = f"if {branches[0][0]} {{ {branches[0][1]} }}"
        if not f.ignorable:
            what = f"\"{snake(f.name)} is set where the version has no such field\""
            text += f" else if {is_set} {{ return Err({what}.into()); }}"
        self.line(text)

    def write_value(self, f):
        member = f"self.{snake(f.name)}"
        nullable = is_option(f)
        if f.is_array:
            if nullable:
                length, items = f"{member}.as_ref().map(Vec::len)", f"{member}.iter().flatten()"
            else:
                length, items = f"Some({member}.len())", f"&{member}"
            item = self.write_one(f, "item", False)
            check = self.null_check(f, member) if nullable else ""
            return (f"{check} writer.array_len({length}, flexible)?;"
                    f" for item in {items} {{ {item} }}")
        check = self.null_check(f, member) if nullable else ""
        return check + self.write_one(f, member, nullable)

    def null_check(self, f, member):
        if f.kind == "records" or f.nullable.covers(f.versions):
            return ""
        if f.nullable.high < f.versions.high:
            raise ValueError(f"{f.name} ceases to be nullable")
        condition = f"version < {f.nullable.low}"
        return (f"if {member}.is_none() && {condition} {{"
                f" return Err(\"{snake(f.name)} may not be null in this version\".into()); }}")

    def write_one(self, f, place, nullable):
        item = place == "item"
        deref = "*" if item else ""
        if f.is_struct:
            if not nullable:
                return f"{place}.write_to(writer, version)?;"
            return (f"writer.present({place}.is_some());"
                    f" if let Some(inner) = &{place} {{ inner.write_to(writer, version)?; }}")
        if f.kind == "records":
            return (f"writer.nullable_bytes({place}.as_ref().map(Records::parts), flexible)?;")
        if f.kind == "bytes":
            value = f"{place}.as_ref().map(std::slice::from_ref)" if nullable else \
                f"Some(std::slice::from_ref({'' if item else '&'}{place}))"
            return f"writer.nullable_bytes({value}, flexible)?;"
        if f.kind == "string":
            if nullable:
                value = f"{place}.as_deref()"
                if f.entity in ENTITIES:
                    value += ".map(|value| &**value)"
            else:
                value = f"Some({'&' if not item else ''}{place})"
            return f"writer.nullable_string({value}, flexible)?;"
        value = f"{place}.0" if f.entity in ENTITIES else f"{deref}{place}"
        return f"writer.{TYPES[f.kind].lower()}({value});"


def comparable(f):
    """An expression equal to the field's default."""
    value = default(f)
    if value == "Default::default()":
        return f"<{rust_type(f)}>::default()"
    if value == "Some(Default::default())":
        return "Some(Default::default())"
    return value


def describe(f):
    high = "on" if f.versions.high == NEVER else f"to {f.versions.high}"
    text = f"From version {f.versions.low} {high}"
    if f.tag is not None:
        text += f"; tag {f.tag}"
    return text + "."


HEADER = """\
//! {name}, versions {versions}. Written by protocol/generator from the message
//! definitions in {jar}; not edited.

"""


def in_one_piece(fields):
    """Records of a request are one batch, which lies in one place: plain bytes."""
    for f in fields:
        if f.kind == "records":
            f.kind = "bytes"
        in_one_piece(f.fields)


def write(message, jar_name):
    if message.side == "request":
        in_one_piece(message.fields)
    body = Emitter(message).emit()
    uses = []
    entities = [e for e in ENTITIES.values() if re.search(rf"\b{e}\b", body)]
    strings = ["StrBytes"] if re.search(r"\bStrBytes\b", body) else []
    names = sorted(entities + strings)
    uses.append("use bytes::Bytes;")
    if re.search(r"\bUuid\b", body):
        uses.append("use uuid::Uuid;")
    uses.append("")
    uses.append("use crate::codec::{Wire, setters};")
    segments = ["Tagged", "Writer"] if "Tagged" in body else ["Writer"]
    uses.append(f"use crate::codec::segments::{{{', '.join(segments)}}};")
    uses.append("use crate::codec::wire::Reader;")
    uses.append("use crate::error::{Result, Source};")
    if names:
        uses.append(f"use crate::messages::{{{', '.join(names)}}};")
    if "Records" in body:
        uses.append("use crate::records::Records;")
    head = HEADER.format(name=message.name, versions=message.versions, jar=jar_name)
    return head + "\n".join(uses) + "\n\n" + body
