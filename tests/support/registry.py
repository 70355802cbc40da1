#!/usr/bin/env python3
"""A registry of images for tests, which can only be read from: each tag is an image of busybox that runs a script.

Usage: registry.py DIRECTORY

DIRECTORY/images.json: {TAG: {"script": TEXT, "health": TEXT or null, "files": {PATH: TEXT}}}, read anew for each request of a tag. DIRECTORY/port gets the port.
An image stays to be had by its digest after its tag has moved on, as in a real registry.
"""
import gzip, hashlib, io, json, pathlib, sys, tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

here = pathlib.Path(sys.argv[1])
LIST = "application/vnd.docker.distribution.manifest.v2+json"
blobs, manifests = {}, {}


def add(data):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    blobs[digest] = data
    return digest


def layer():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        busybox = pathlib.Path("/usr/bin/busybox").read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(busybox), 0o755
        tar.addfile(entry, io.BytesIO(busybox))
        for name in ["sh", "sleep", "echo", "test", "touch", "cat"]:
            link = tarfile.TarInfo("bin/" + name)
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        # Where a container gets this machine's /usr, programs find their libraries.
        for name in ["lib", "lib64"]:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, "usr/" + name
            tar.addfile(link)
        for name in ["tmp", "proc", "dev", "sys", "etc"]:
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(directory)
    return buffer.getvalue()


def files_layer(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, text in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text.encode()), 0o755
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def packed_layer(plain):
    packed = gzip.compress(plain, mtime=0)
    return "sha256:" + hashlib.sha256(plain).hexdigest(), len(packed), add(packed)


base = packed_layer(layer())


def manifest_of(image):
    config = {"Cmd": ["/bin/sh", "-c", image["script"]], "Env": ["PATH=/bin"], "StopSignal": "SIGKILL"}
    if image.get("health"):
        config["Healthcheck"] = {"Test": ["CMD-SHELL", image["health"]], "Interval": 500_000_000, "Retries": 3}
    layers = [base] + ([packed_layer(files_layer(image["files"]))] if image.get("files") else [])
    document = {"architecture": "amd64", "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": [diff_id for diff_id, _, _ in layers]}}
    document = json.dumps(document).encode()
    manifest = {
        "schemaVersion": 2, "mediaType": LIST,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(document), "digest": add(document)},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": size, "digest": digest} for _, size, digest in layers],
    }
    manifest = json.dumps(manifest).encode()
    manifests["sha256:" + hashlib.sha256(manifest).hexdigest()] = manifest
    return manifest


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parts = self.path.strip("/").split("/")
        kind, reference = (parts[-2], parts[-1]) if len(parts) > 3 else ("", "")
        body, media = None, "application/octet-stream"
        if self.path.strip("/") == "v2":
            body, media = b"{}", "application/json"
        elif kind == "manifests":
            images = json.loads((here / "images.json").read_text())
            media = LIST
            body = manifest_of(images[reference]) if reference in images else manifests.get(reference)
        elif kind == "blobs":
            body = blobs.get(reference)
        status = 200
        if body is None:
            status, media = 404, "application/json"
            body = json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}).encode()
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        if status == 200:
            self.send_header("Docker-Content-Digest", "sha256:" + hashlib.sha256(body).hexdigest())
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
(here / "port.new").write_text(str(server.server_port))
(here / "port.new").rename(here / "port")
server.serve_forever()
