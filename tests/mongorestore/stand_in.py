#!/usr/bin/env python3
"""Stands in for mongodump and mongorestore, which are in no package registry: the same archives, the same options, the same words.

Usage: stand_in.py DIRECTORY PROGRAM [ARGUMENT]...

It writes how it was called to DIRECTORY/arguments. What DIRECTORY/mode says is done: `lose` leaves the last document of each collection out
and says that all is there, `lose-index` an index, `complain` says that three documents failed, `fail` ends badly after the first collection, `stop`
ends well there, and `hang` stands still there, with its process id in DIRECTORY/hanging.
"""
import os, pathlib, re, signal, struct, sys
import bson, bson.raw_bson, pymongo
from bson import json_util

MAGIC, END = struct.pack("<I", 0x8199E26D), struct.pack("<I", 0xFFFFFFFF)
directory, program, arguments = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]


def crc_table():
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0xC96C5795D7870F42 if byte & 1 else 0)
        yield byte


CRC = list(crc_table())


def crc64(crc, data):
    """CRC-64/XZ, begun with 0."""
    crc ^= 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc = CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFFFFFFFFFF


def signed(number):
    return bson.Int64(number - (1 << 64) if number >> 63 else number)


def say(message):
    print(f"2026-11-01T02:30:00.000+0000\t{message}", file=sys.stderr, flush=True)


def connect():
    (config,) = [word[len("--config="):] for word in arguments if word.startswith("--config=")]
    line = pathlib.Path(config).read_text()
    url = re.fullmatch(r"uri: '(.*)'\n", line)[1].replace("''", "'")
    return pymongo.MongoClient(url, directConnection=True)


class Archive:
    """What comes on the standard input. Anything out of order is the end."""

    def __init__(self):
        self.input = sys.stdin.buffer
        assert self.take(4) == MAGIC, "no archive"
        header, *namespaces = self.block()
        header = bson.decode(header)
        assert set(header) == {"concurrent_collections", "version", "server_version", "tool_version"}, header
        assert header["version"] == "0.1" and re.match(r"\d+\.\d+", header["server_version"]), header
        self.namespaces = [bson.decode(each) for each in namespaces]
        for each in self.namespaces:
            assert set(each) == {"db", "collection", "metadata", "size", "type"}, each
        self.sums = {self.key(each): 0 for each in self.namespaces}

    def key(self, header):
        return header["db"], header["collection"]

    def take(self, count):
        taken = self.input.read(count)
        assert len(taken) == count, "the archive is cut off"
        return taken

    def block(self):
        while (length := self.take(4)) != END:
            yield length + self.take(struct.unpack("<i", length)[0] - 4)

    def is_at_end(self):
        return not self.input.peek(1)

    def contents(self):
        """Each block: of which namespace, and its documents; none where the namespace ends."""
        while not self.is_at_end():
            header, *documents = self.block()
            header = bson.decode(header)
            assert list(header) == ["db", "collection", "EOF", "CRC"], header
            key = self.key(header)
            assert key in self.sums, f"{key} is not in the prelude, or has ended"
            if header["EOF"]:
                assert not documents and signed(self.sums.pop(key)) == header["CRC"], f"the sum of {key} is another one"
                yield key, None
                continue
            for document in documents:
                self.sums[key] = crc64(self.sums[key], document)
            yield key, documents
        assert not self.sums, f"{list(self.sums)} have not ended"


def restore(mode):
    (included,) = [word[len("--nsInclude="):] for word in arguments if word.startswith("--nsInclude=")]
    assert included.endswith(".*") and "--archive" in arguments and "--stopOnError" in arguments, arguments
    client, archive = connect(), Archive()
    metadata, count = {}, 0
    for each in archive.namespaces:
        assert each["db"] == included[:-2] and each["type"] == "collection", each
        told = json_util.loads(each["metadata"])
        assert told["collectionName"] == each["collection"] and "uuid" not in told, told
        metadata[archive.key(each)] = told
    for key, documents in archive.contents():
        database, name = key
        full = f"{database}.{name}"
        if documents is None:
            say(f"finished restoring {full} (some documents, 0 failures)")
            if mode == "fail":
                say(f"Failed: {full}: error restoring from archive on stdin: disk full")
                sys.exit(1)
            if mode == "stop":
                sys.exit(0)
            if mode == "hang":
                (directory / "hanging").write_text(f"{os.getpid()}\n")
                signal.pause()
            continue
        say(f"restoring {full} from archive on stdin")
        assert name not in client[database].list_collection_names(), f"{full} is there"
        client[database].command({"create": name, **metadata[key].get("options", {})})
        count += len(documents)
        documents = [bson.raw_bson.RawBSONDocument(each) for each in documents[: -1 if mode == "lose" else None]]
        for document in documents:
            client[database].command({"insert": name, "documents": [document], "bypassDocumentValidation": True})
    for (database, name), told in metadata.items():
        indexes = [each for each in told["indexes"] if each["name"] != "_id_"]
        if indexes[mode == "lose-index":]:
            say(f"restoring indexes for collection {database}.{name} from metadata")
            client[database].command({"createIndexes": name, "indexes": indexes[mode == "lose-index":]})
    failed = 3 if mode == "complain" else 0
    say(f"{count - failed} document(s) restored successfully. {failed} document(s) failed to restore.")


def dump():
    (name,) = [word[len("--db="):] for word in arguments if word.startswith("--db=")]
    client, output = connect(), sys.stdout.buffer
    database, namespaces = client[name], []
    for each in database.list_collections():
        excluded = [word.split("=")[1] for word in arguments if word.startswith("--excludeCollectionsWithPrefix=")]
        if each["name"].startswith(("system.", *excluded)):
            continue
        is_view = each["type"] == "view"
        indexes = [] if is_view else [dict(index) for index in database[each["name"]].list_indexes()]
        told = {"options": each["options"], "indexes": indexes, "collectionName": each["name"], "type": each["type"]}
        if not is_view:
            told["uuid"] = each["info"]["uuid"].hex()
        metadata = json_util.dumps(told, json_options=json_util.CANONICAL_JSON_OPTIONS)
        namespaces.append({"db": name, "collection": each["name"], "metadata": metadata, "size": 0, "type": each["type"]})
    header = {"concurrent_collections": 1, "version": "0.1", "server_version": client.server_info()["version"], "tool_version": "100.18.0"}
    output.write(MAGIC + b"".join(bson.encode(each) for each in [header, *namespaces]) + END)
    for each in namespaces:
        def block(end, crc, documents=()):
            head = bson.encode({"db": name, "collection": each["collection"], "EOF": end, "CRC": signed(crc)})
            output.write(head + b"".join(documents) + END)
        documents = []
        if each["type"] != "view":
            raw = bson.CodecOptions(document_class=bson.raw_bson.RawBSONDocument)
            documents = [document.raw for document in database[each["collection"]].with_options(raw).find()]
        block(False, 0, documents)
        block(True, crc64(0, b"".join(documents)))
        say(f"done dumping {name}.{each['collection']} ({len(documents)} documents)")


if program == "mongodump":
    dump()
else:
    (directory / "arguments").write_text("\n".join(arguments))
    mode = directory / "mode"
    try:
        restore(mode.read_text() if mode.exists() else "")
    except AssertionError as error:
        say(f"Failed: {error}")
        sys.exit(1)
