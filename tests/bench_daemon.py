"""The daemon while nothing is due, and until it is ready: called by tests/bench."""

import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time

INSTANCES = 200
SNAPSHOTS = 100_000
MOST_MEGABYTES = 40
MOST_PERCENT = 0.1
MOST_SECONDS = 0.3
STARTS = 5


def configure(root):
    (root / "password").write_text("a password for a bench")
    (root / "password").chmod(0o600)
    text = f"""
[repository.main]
url = "{root}/repository"
password = "file:{root}/password"
[state]
dir = "{root}/state"
[daemon]
socket = "{root}/run/belay.sock"
[defaults]
schedule = "30 2 29 2 *"
keep = {{ daily = 14 }}
"""
    for number in range(INSTANCES):
        source = root / f"source-{number}"
        source.mkdir()
        (source / "file").write_text(str(number))
        text += f"""
[instance.i{number}]
platform = "files"
paths = ["{source}"]
objectives = {{ rpo = "24h" }}
"""
    config = root / "belay.toml"
    config.write_text(text)
    return config


class Daemon:
    """A daemon, as its service manager sees it."""

    def __init__(self, belay, config, root):
        path = str(root / "notify.sock")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(path)
        listener.settimeout(60)
        began = time.monotonic()
        self.process = subprocess.Popen(
            [belay, "--config", config, "daemon"],
            env={**os.environ, "NOTIFY_SOCKET": path},
            stderr=subprocess.DEVNULL,
        )
        while b"READY=1" not in listener.recv(4096):
            pass
        self.seconds = time.monotonic() - began
        listener.close()
        os.unlink(path)

    def processor_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0


def fill(root):
    """Snapshots that the catalog knows, as a host of many years has them."""
    catalog = sqlite3.connect(root / "state" / "catalog.sqlite")
    repository = catalog.execute("SELECT repository_id FROM repositories").fetchone()[0]
    rows = (
        (repository, f"{number:064x}", f"{number % INSTANCES:032x}", f"i{number % INSTANCES}", "host", "files",
         f"2020-01-01T00:00:00.{number:09d}Z", 1, "unproven", 1000, 10, "[]")
        for number in range(SNAPSHOTS)
    )
    with catalog:
        catalog.executemany(
            "INSERT INTO snapshots (repository_id, snapshot_id, instance_id, instance_name, host, platform, time, sealed,"
            " key_fit, size_bytes, added_bytes, tags_json) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
    catalog.close()


def main():
    belay, seconds = sys.argv[1], float(sys.argv[2])
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        config = configure(root)
        subprocess.run([belay, "--config", config, "init", "--quiet"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(
            [belay, "--config", config, "backup", "i0", "--quiet"], check=True, stdout=subprocess.DEVNULL
        )
        daemon = Daemon(belay, config, root)
        # What it does at its start is not what it does while nothing is due.
        time.sleep(10)
        before, began = daemon.processor_seconds(), time.monotonic()
        time.sleep(seconds)
        percent = 100 * (daemon.processor_seconds() - before) / (time.monotonic() - began)
        megabytes = daemon.megabytes()
        daemon.stop()
        fill(root)
        catalog = root / "state" / "catalog.sqlite"
        filled = catalog.read_bytes()
        starts = []
        for _ in range(STARTS):
            # The daemon drops what the repository does not have.
            catalog.write_bytes(filled)
            daemon = Daemon(belay, config, root)
            starts.append(daemon.seconds)
            daemon.stop()
    starts.sort()
    ready = starts[len(starts) // 2]
    print("| | measured | limit |\n| --- | --- | --- |")
    print(f"| {INSTANCES} instances, nothing due for {seconds:.0f} s: memory | {megabytes:.1f} MB | {MOST_MEGABYTES} MB |")
    print(f"| the same: processor | {percent:.3f} % | {MOST_PERCENT} % |")
    print(f"| {SNAPSHOTS} snapshots in the catalog: ready after | {ready * 1000:.0f} ms | {MOST_SECONDS * 1000:.0f} ms |")
    sys.exit(megabytes > MOST_MEGABYTES or percent > MOST_PERCENT or ready > MOST_SECONDS)


main()
