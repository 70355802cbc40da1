#!/usr/bin/env python3
"""A small platform over a real database, for tests: a real HTTP server that speaks as much of ToolJet (over PostgreSQL) or Appsmith
(over MongoDB) as Belay asks for, moves its schema when a newer release starts, and breaks as it is told.

Usage: platform_server.py DIRECTORY VERSION

DIRECTORY/settings.json: {"platform", "port", "environment", "token"|"login", "breaks": {VERSION: [NAME, ...]}, "psql": {...}|"mongodb": URL}
DIRECTORY/ready is made once it listens. It runs until it is killed. What it can be told for a version:

    refuses         says why, and does not start
    half            moves a part of the schema, and dies
    loses-rows      its migration deletes what users made
    drops-app       one app is not listed any more
    breaks-app      one app, and a page of another, answer with 500
    changes-key     what is encrypted is written anew under another key
    rewrites-keys   its environment file has another key, and nothing is encrypted anew
    pretends        health says that all is well, and everything else fails
    limited         health answers once with 429 (Appsmith: in a 200's body)
    hangs           takes connections, and never answers
    old-version     tells the version before
"""
import base64, glob, hashlib, json, os, pathlib, re, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

here, version = pathlib.Path(sys.argv[1]), sys.argv[2]
settings = json.loads((here / "settings.json").read_text())
breaks = set(settings["breaks"].get(version, []))
# Debian's psql is a Perl script around the program, which takes longer than most questions.
PSQL = max(glob.glob("/usr/lib/postgresql/*/bin/psql"), default="psql")


def numbers(text):
    return [int(part) for part in text.lstrip("v").split("-")[0].split(".")]


class Refused(Exception):
    pass


def rewrite_key(name, value):
    path = pathlib.Path(settings["environment"])
    text, count = re.subn(f"^{name}=.*$", f"{name}={value}", path.read_text(), flags=re.M)
    assert count == 1, f"{path} has {count} of {name}"
    path.write_text(text)


class ToolJet:
    """Apps, credentials and the release stand in PostgreSQL, which is spoken to through psql."""

    def sql(self, statements, database="tooljet_production"):
        environment = {**os.environ, **settings["psql"], "PGDATABASE": database}
        command = [PSQL, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statements]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise Refused("the database says: " + done.stderr.strip())
        return done.stdout.strip()

    def release(self):
        return self.sql("SELECT data->>'installed_version' FROM metadata")

    def migrate(self, before):
        line = "_".join(map(str, numbers(version)[:2]))
        self.sql(f"ALTER TABLE apps ADD COLUMN IF NOT EXISTS of_{line} text")
        if "half" in breaks:
            print("the migration of tooljet_db failed", flush=True)
            os._exit(3)
        self.sql(f"CREATE TABLE IF NOT EXISTS of_{line} (id int)", "tooljet_db")

    def start(self):
        if "loses-rows" in breaks:
            self.sql("DELETE FROM app_versions WHERE name = 'v1'")
        if "rewrites-keys" in breaks:
            rewrite_key("LOCKBOX_MASTER_KEY", "04" * 32)
        if "changes-key" in breaks:
            info = b"\xb4" * 32 + b"value_ciphertext"
            key = HKDF(hashes.SHA384(), 32, b"credentials", info).derive(bytes(32))
            nonce = os.urandom(12)
            text = base64.b64encode(nonce + AESGCM(key).encrypt(nonce, b"anew", None)).decode()
            self.sql(f"UPDATE credentials SET value_ciphertext = '{text}' WHERE id = (SELECT min(id::text)::uuid FROM credentials)")

    def installed(self):
        self.sql(f"UPDATE metadata SET data = json_build_object('installed_version', '{version}')")

    def answer(self, request, path, query):
        if path == "/api/health":
            return 200, {"works": "yeah"}
        if "pretends" in breaks:
            return 500, {"message": "Internal server error"}
        if path == "/api/metadata":
            return 200, {"installed_version": told_version()}
        if request.headers.get("Authorization") != "Basic " + settings["token"]:
            return 403, {"message": "Unauthorized"}
        parts = path.strip("/").split("/")
        if path == "/api/ext/workspaces":
            return 200, json.loads(self.sql("SELECT coalesce(json_agg(json_build_object('id', id, 'name', name)), '[]') FROM organizations"))
        if len(parts) == 5 and parts[:3] == ["api", "ext", "workspace"] and parts[4] == "apps":
            apps = json.loads(self.sql(f"SELECT coalesce(json_agg(json_build_object('id', id, 'name', name) ORDER BY name), '[]') FROM apps WHERE organization_id = '{parts[3]}'"))
            return 200, apps[1:] if "drops-app" in breaks else apps
        if parts[:3] == ["api", "ext", "export"] and request.command == "POST":
            name, versions = json.loads(self.sql(f"SELECT json_build_array((SELECT name FROM apps WHERE id = '{parts[6]}'), (SELECT coalesce(json_agg(definition), '[]') FROM app_versions WHERE app_id = '{parts[6]}'))"))
            if "breaks-app" in breaks and name.startswith("App 3"):
                return 500, {"message": "cannot read properties of undefined"}
            return 201, {"app": [{"definition": versions}], "tooljet_version": version}
        return 404, {"message": "Cannot find " + path}


class Appsmith:
    """The same in MongoDB."""

    def __init__(self):
        import pymongo

        self.db = pymongo.MongoClient(settings["mongodb"], directConnection=True).get_default_database()
        self.limited = "limited" in breaks

    def release(self):
        found = self.db.config.find_one({"name": "release-of-tests"})
        return found["value"] if found else "v1.0"

    def migrate(self, before):
        line = "_".join(map(str, numbers(version)[:2]))
        self.db.application.update_many({}, {"$set": {f"of_{line}": True}})
        if "half" in breaks:
            print("the migration of pages failed", flush=True)
            os._exit(3)
        self.db.newPage.update_many({}, {"$set": {f"of_{line}": True}})

    def start(self):
        if "loses-rows" in breaks:
            self.db.newAction.delete_many({"unpublishedAction.name": "Query5"})
        if "rewrites-keys" in breaks:
            rewrite_key("APPSMITH_ENCRYPTION_PASSWORD", "another-password")
        if "changes-key" in breaks:
            key = hashlib.pbkdf2_hmac("sha1", b"another", b"salt", 1024, 32)
            nonce = os.urandom(16)
            text = (nonce + AESGCM(key).encrypt(nonce, b"anew", None)).hex()
            self.db.datasourceStorage.update_one({}, {"$set": {"datasourceConfiguration.authentication.password": text}})

    def installed(self):
        self.db.config.update_one({"name": "release-of-tests"}, {"$set": {"value": version}}, upsert=True)

    def answer(self, request, path, query):
        if path == "/api/v1/health":
            if self.limited:
                self.limited = False
                return 200, meta(429)
            self.db.command("ping")
            return 200, meta(200, "All systems are Up")
        if "pretends" in breaks:
            return 200, meta(500)
        if path == "/info":
            return 200, {"version": told_version(), "commitSha": "0123456"}
        if path == "/api/v1/login" and request.command == "POST":
            is_right = request.body == settings["login"]
            return 302, {}, [("Set-Cookie", "SESSION=" + ("session-1" if is_right else "x")), ("Location", "/applications" if is_right else "/user/login?error=true")]
        if request.headers.get("Cookie") != "SESSION=session-1" or request.headers.get("X-Requested-By") != "Appsmith":
            return 401, meta(401)
        if path == "/api/v1/workspaces/home":
            return 200, meta(200, [{"id": str(each["_id"]), "name": each["name"]} for each in self.db.workspace.find()])
        if path == "/api/v1/applications/home":
            apps = self.db.application.find({"workspaceId": query["workspaceId"][0]}).sort("name")
            apps = [{"id": str(each["_id"]), "name": each["name"]} for each in apps]
            return 200, meta(200, apps[1:] if "drops-app" in breaks else apps)
        if path == "/api/v1/pages" and query["mode"] == ["PUBLISHED"]:
            pages = list(self.db.newPage.find({"applicationId": query["applicationId"][0]}))
            return 200, meta(200, {"pages": [{"id": str(each["_id"]), "name": each["publishedPage"]["name"]} for each in pages]})
        if path == "/api/v1/consolidated-api/view":
            from bson import ObjectId

            page = self.db.newPage.find_one({"_id": ObjectId(query["defaultPageId"][0])})
            app = self.db.application.find_one({"_id": ObjectId(query["applicationId"][0])})
            is_broken = "breaks-app" in breaks and app["name"] == "App 3" and page["publishedPage"]["name"] == "Page1"
            # Well as a whole, whatever is in it.
            return 200, meta(200, {"pageWithMigratedDsl": meta(500) if is_broken or page is None else meta(200, {"id": str(page["_id"])})})
        return 404, meta(404)


def meta(status, data=None):
    return {"responseMeta": {"status": status, "success": status < 300}, "data": data}


def told_version():
    if "old-version" not in breaks:
        return version
    major, minor, *rest = numbers(version)
    return ".".join(map(str, [major, minor - 1, *rest]))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_request(self):
        if "hangs" in breaks:
            threading.Event().wait()
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        # What a request changed would show: there is a line for each.
        with open(here / "requests", "a") as requests:
            requests.write(f"{self.command} {self.path}\n")
        url = urlparse(self.path)
        try:
            status, answer, *headers = platform.answer(self, url.path, parse_qs(url.query))
        except Exception as error:
            status, answer, headers = 500, {"message": repr(error)}, []
        body = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in (headers or [[]])[0]:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = handle_request

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


if "refuses" in breaks:
    print("CHECKPOINT MISSED: this release does not start here", flush=True)
    sys.exit(1)
platform = {"tooljet": ToolJet, "appsmith": Appsmith}[settings["platform"]]()
before = platform.release()
if numbers(before)[:2] > numbers(version)[:2]:
    print(f"the database is of {before}, which {version} cannot read", flush=True)
    sys.exit(1)
if numbers(before)[:2] < numbers(version)[:2]:
    print(f"moving the schema from {before}", flush=True)
    platform.migrate(before)
platform.start()
platform.installed()
server = Server(("127.0.0.1", settings["port"]), Handler)
(here / "ready").write_text(str(os.getpid()))
server.serve_forever()
