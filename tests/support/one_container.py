#!/usr/bin/env python3
"""What runs in the one container of a small Appsmith, for tests: a real MongoDB whose files are on the volume, where it has one of its own,
and the server of platform_server.py, which a supervisor stops and starts.

Usage: one_container.py MONGOD

/opt/appsmith/info.json says which release it is. /appsmith-stacks has configuration/docker.env, and data/mongodb and data/port where
the database is its own; /platform what platform_server.py reads. While /tmp/backend.want is there the server runs, with its id in /tmp/backend.pid. Besides what that can be
told to break:

    spoils-files    its environment file has another key, and of its files beside the database one is another, one is gone, and one is new
    exits           opens the files of its database for good, or moves the schema of one elsewhere, and ends before anything else runs
"""
import json, os, pathlib, re, shutil, signal, subprocess, sys, time

import pymongo

stacks, platform = pathlib.Path("/appsmith-stacks"), pathlib.Path("/platform")
want, pid = pathlib.Path("/tmp/backend.want"), pathlib.Path("/tmp/backend.pid")
version = json.loads(pathlib.Path("/opt/appsmith/info.json").read_text())["version"]
settings = json.loads((platform / "settings.json").read_text())
breaks = settings["breaks"].get(version, [])
data = stacks / "data/mongodb"
engine = data / "engine"
has_own = data.exists()


def numbers(text):
    return [int(part) for part in text.lstrip("v").split(".")]


if engine.exists() and numbers(engine.read_text()) > numbers(version):
    sys.exit(f"the files of the database are of {engine.read_text()}, which {version} cannot open")
if "spoils-files" in breaks:
    environment, git = stacks / "configuration/docker.env", stacks / "git-storage"
    environment.write_text(re.sub("(?m)^(APPSMITH_ENCRYPTION_PASSWORD)=.*$", r"\1=another-password", environment.read_text()))
    (git / "app/HEAD").write_text("ref: refs/heads/moved\n")
    (git / "app/page.json").unlink(missing_ok=True)
    (git / "of-the-new-version").write_text(version)
    shutil.rmtree(stacks / "ssl", ignore_errors=True)
if "exits" in breaks and not has_own:
    database = pymongo.MongoClient(settings["mongodb"], directConnection=True).get_default_database()
    database.application.update_many({}, {"$set": {"title": "moved"}})
    database.config.update_one({"name": "release-of-tests"}, {"$set": {"value": version}})
    print("the schema is moved for good, and this ends", flush=True)
    sys.exit(1)
if "exits" in breaks:
    engine.write_text(version)
    for name in ["WiredTiger.turtle", "WiredTiger"]:
        (data / name).write_text("of another engine")
    print("CHECKPOINT MISSED: the files of the database are moved for good", flush=True)
    sys.exit(1)

for left in [want, pid, platform / "ready"]:
    left.unlink(missing_ok=True)
server, mongod, asked_to_end = None, None, False


def stop(process):
    process.terminate()
    return process.wait()


def end(status):
    if status:
        print(f"one of its programs ended with {status}", flush=True)
        if has_own:
            print("the last words of mongod:", pathlib.Path("/tmp/mongod.log").read_text()[-2000:], sep="\n", flush=True)
    if server is not None and server.poll() is None:
        stop(server)
    if mongod is not None:
        stop(mongod)
    sys.exit(status)


def on_term(*_):
    global asked_to_end
    asked_to_end = True


def start_mongod():
    global mongod
    port = (stacks / "data/port").read_text()
    log = open("/tmp/mongod.log", "w")
    mongod = subprocess.Popen(
        [sys.argv[1], "--dbpath", data, "--port", port, "--bind_ip", "127.0.0.1", "--replSet", "mr1", "--unixSocketPrefix", "/tmp", "--wiredTigerCacheSizeGB", "0.25"],
        stdout=log, stderr=log,
    )
    client = pymongo.MongoClient(f"mongodb://127.0.0.1:{port}/", directConnection=True, serverSelectionTimeoutMS=500)
    while not asked_to_end:
        if mongod.poll() is not None:
            end(mongod.returncode)
        try:
            said = client.admin.command("hello")
            if said["isWritablePrimary"]:
                break
            if said.get("isreplicaset"):
                # It begins on an empty directory.
                members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
                client.admin.command("replSetInitiate", {"_id": "mr1", "members": members})
        except pymongo.errors.PyMongoError:
            pass
        time.sleep(0.05)
    client.close()


signal.signal(signal.SIGTERM, on_term)
if has_own:
    start_mongod()
want.touch()
while not asked_to_end:
    if want.exists() and server is None:
        server = subprocess.Popen(["/usr/bin/python3", pathlib.Path(__file__).parent / "platform_server.py", platform, version])
        pid.write_text(str(server.pid))
    if server is not None and not want.exists():
        stop(server)
        pid.unlink()
        server = None
    if server is not None and server.poll() is not None:
        end(server.returncode)
    if mongod is not None and mongod.poll() is not None:
        end(mongod.returncode)
    time.sleep(0.05)
end(0)
