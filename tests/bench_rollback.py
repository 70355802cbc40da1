"""Measures the rollback of an upgrade against bringing the same data back by hand, in turns; called by `tests/bench rollback`."""

import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from bench import write_password
from bench_postgres import PROGRAMS, ROWS_OF_A_MEGABYTE, SEED, Server, Share

MOST_OF_BY_HAND = 1.2
OLD = "v3.16.11"
TOKEN = "external-api-token-of-tests"
DATABASES = ["tooljet_production", "tooljet_db"]
HERE = os.path.dirname(os.path.abspath(__file__))
# The steps of a rollback, as the journal names them.
STEPS = {
    "keep_users_out": "keep users out",
    "stop_production": "stop production",
    "save_production": "(said only: the next step does it)",
    "put_back_production": "save what the new version left, put the data back",
    "start_back": "start the old version",
    "verify_back": "test it",
    "let_users_in": "let users in",
}

PIPED, SPOOLED = "restic dump into pg_restore", "spooled into pg_restore -j2"

# Stops the server that runs, and starts a version; ends once that listens.
SCRIPT = """#!/bin/sh
set -eu
here={directory}/$BELAY_INSTANCE
stop() {{
  [ -e "$here/pid" ] || return 0
  pid=$(cat "$here/pid")
  kill "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
  rm -f "$here/pid"
}}
start() {{
  rm -f "$here/ready"
  PYTHONPATH={packages} setsid python3 {server} "$here" "$1" > "$here/log" 2>&1 < /dev/null &
  echo $! > "$here/pid"
  while [ ! -e "$here/ready" ]; do
    kill -0 "$(cat "$here/pid")" 2>/dev/null || {{ cat "$here/log"; rm -f "$here/pid"; exit 1; }}
    sleep 0.02
  done
}}
case ${{1-install}} in
  stop) stop ;;
  start) [ -e "$here/pid" ] || start "$(cat "$here/version")" ;;
  install) stop; start "$BELAY_VERSION"; echo "$BELAY_VERSION" > "$here/version" ;;
esac
"""


def breaking(number):
    """The release of a round. It breaks on production."""
    return f"v3.17.{number}"


def fail(message):
    sys.exit(f"tests/bench: {message}")


class Side:
    """An instance: a server, its environment file, and the small platform over it."""

    def __init__(self, work, name, port, megabytes, rounds):
        self.name, self.port = name, port
        os.mkdir(f"{work}/{name}-server")
        self.server = Server(f"{work}/{name}-server", Share(None))
        seed = subprocess.run([sys.executable, f"{HERE}/fixtures/tooljet/seed.py", "1"], check=True, capture_output=True, text=True)
        self.server.sql(seed.stdout, "postgres")
        self.server.sql(f"UPDATE metadata SET data = json_build_object('installed_version', '{OLD}')", DATABASES[0])
        if megabytes:
            # Its own tables have these names already.
            tables = SEED.replace("app_versions", "page_versions").replace("files", "attachments")
            rows = megabytes * ROWS_OF_A_MEGABYTE
            self.server.sql("SET ROLE tooljet;\n" + tables.format(megabytes=megabytes, rows=rows), DATABASES[0])
        with open(f"{HERE}/fixtures/tooljet/tooljet.env", encoding="utf-8") as file:
            environment = file.read()
        directory = self.server.directory
        environment = environment.replace("PG_HOST=localhost", f"PG_HOST={directory}").replace("TOOLJET_DB_HOST=localhost", f"TOOLJET_DB_HOST={directory}")
        self.environment = f"{work}/{name}.env"
        with open(self.environment, "w", encoding="utf-8") as file:
            file.write(f"{environment}TOOLJET_DB_PORT=5432\n")
        os.makedirs(f"{work}/platforms/{name}")
        psql = {"PGHOST": directory, "PGPORT": "5432", "PGUSER": "postgres"}
        breaks = {breaking(number): ["breaks-app"] for number in range(rounds)} if name == "production" else {}
        with open(f"{work}/platforms/{name}/settings.json", "w", encoding="utf-8") as file:
            json.dump({"platform": "tooljet", "port": port, "token": TOKEN, "psql": psql, "breaks": breaks}, file)


class Pair:
    def __init__(self, program, work, megabytes, rounds):
        self.program, self.work = program, work
        os.makedirs(f"{work}/platforms")
        self.script = f"{work}/platforms/upgrade.sh"
        with open(self.script, "w", encoding="utf-8") as file:
            packages = os.environ.get("PYTHONPATH", "")
            file.write(SCRIPT.format(directory=f"{work}/platforms", packages=packages, server=f"{HERE}/support/platform_server.py"))
        os.chmod(self.script, 0o755)
        self.sides = []
        ports = free_ports(2)
        for name, port, size in [("staging", ports[0], 0), ("production", ports[1], megabytes)]:
            self.sides.append(Side(work, name, port, size, rounds))
        write_password(work)
        with open(f"{work}/token", "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(TOKEN)
        self.configure()
        self.belay(["init"])
        for side in self.sides:
            self.run_script(side.name, OLD)
        self.belay(["backup", "--pair", "main"], {0, 3})

    def configure(self):
        work, script = self.work, self.script
        text = (f'[repository.main]\nurl = "{work}/repository"\npassword = "file:{work}/password"\n\n'
                f'[state]\ndir = "{work}/state"\n')
        for side in self.sides:
            text += (f'\n[instance.{side.name}]\nplatform = "tooljet"\nurl = "http://127.0.0.1:{side.port}"\n'
                     f'environment = "{side.environment}"\ntoken = "file:{work}/token"\n')
        text += (f'\n[pair.main]\nstaging = "staging"\nproduction = "production"\nsoak = "0s"\n'
                 f'driver = {{ command = "{script}", stop = ["{script}", "stop"], start = ["{script}", "start"] }}\n')
        with open(f"{work}/belay.toml", "w", encoding="utf-8") as file:
            file.write(text)

    def belay(self, arguments, codes=frozenset({0})):
        done = subprocess.run([self.program, "--config", f"{self.work}/belay.toml", *arguments], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, env=dict(os.environ, HOME=self.work), check=False)
        if done.returncode not in codes:
            fail(f"belay {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def run_script(self, name, version, action="install"):
        environment = dict(os.environ, BELAY_INSTANCE=name, BELAY_VERSION=version)
        done = subprocess.run([self.script, action], env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            fail(f"{action} of {name}: {done.stdout}{done.stderr}")

    def upgrade(self, version, codes):
        self.belay(["upgrade", "start", "main", "--to", version, "--yes", "--foreground"], codes)

    def rolled_back(self):
        """How long each step of the rollback took, by the journal's own times."""
        shown = json.loads(self.belay(["upgrade", "show", "main", "--json"]).strip().splitlines()[-1])["upgrade"]
        if shown["state"] != "rolled_back":
            fail(f"the upgrade is {shown['state']}, and not rolled back")
        began, steps = {}, {}
        for record in shown["records"]:
            step, at = record.get("step"), record["at"]
            if step not in STEPS:
                continue
            if record["kind"] == "began":
                began[step] = seconds(at)
            elif record["kind"] == "done":
                steps[step] = (began[step], seconds(at))
        return steps

    def stop(self):
        for side in self.sides:
            self.run_script(side.name, "", "stop")
            side.server.stop()


def seconds(timestamp):
    text = timestamp.rstrip("Z")
    whole, _, part = text.partition(".")
    return datetime.datetime.fromisoformat(whole + "+00:00").timestamp() + float("0." + (part or "0"))


def free_ports(count):
    import socket
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def timed(work):
    os.sync()
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


class ByHand:
    """What a person does who has the repository, restic and PostgreSQL's own programs."""

    def __init__(self, pair, snapshot):
        self.pair, self.snapshot, self.server = pair, snapshot, pair.sides[1].server
        self.environment = dict(self.server.environment, RESTIC_REPOSITORY=f"{pair.work}/repository", HOME=pair.work,
                                RESTIC_PASSWORD_FILE=f"{pair.work}/password", RESTIC_CACHE_DIR=f"{pair.work}/cache")

    def shell(self, command):
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command], env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            fail(f"{command}: {done.stdout}{done.stderr}")

    def piped(self):
        self.restore(lambda database: f"restic dump {self.snapshot} /postgres/{database}.dump | {PROGRAMS[-1]}/pg_restore --exit-on-error -d {database}_new")

    def spooled(self):
        spool = f"{self.pair.work}/spool"
        self.restore(lambda database: f"restic dump {self.snapshot} /postgres/{database}.dump > {spool} && "
                                      f"{PROGRAMS[-1]}/pg_restore --exit-on-error -j2 -d {database}_new {spool} && rm {spool}")

    def restore(self, command):
        for database in DATABASES:
            self.shell(f"{PROGRAMS[-1]}/createdb -T template0 -O tooljet {database}_new")
            self.shell(command(database))

    def drop(self):
        for database in DATABASES:
            self.shell(f"{PROGRAMS[-1]}/dropdb --force {database}_new")

    def put_in_place(self):
        for database in DATABASES:
            self.server.sql(f"DROP DATABASE {database} WITH (FORCE);\nALTER DATABASE {database}_new RENAME TO {database};", "postgres")

    def restart(self):
        self.pair.run_script("production", OLD)
        url = f"http://127.0.0.1:{self.pair.sides[1].port}/api/health"
        with urllib.request.urlopen(url, timeout=60) as answer:
            if json.load(answer) != {"works": "yeah"}:
                fail("the old version is not well after the restore by hand")

    def measure(self):
        times = {"stop": timed(lambda: self.pair.run_script("production", OLD, "stop")), PIPED: timed(self.piped)}
        self.drop()
        times[SPOOLED] = timed(self.spooled)
        times["put in place"] = timed(self.put_in_place)
        times["restart"] = timed(self.restart)
        return times


def last_backup(pair):
    """The snapshot of production that the upgrade took with its writers stopped, of which a rollback is."""
    shown = json.loads(pair.belay(["upgrade", "show", "main", "--json"]).strip().splitlines()[-1])["upgrade"]
    taken = [record["outcome"]["snapshot"] for record in shown["records"]
             if record["kind"] == "done" and record.get("step") == "back_up_stopped"]
    return taken[-1]


def measure_round(pair, number):
    """How long each part took: the rollback's steps by their names in the journal, and what was done by hand."""
    print(f"round {number + 1}: an upgrade, which breaks on production", file=sys.stderr)
    pair.upgrade(breaking(number), {1})
    steps = pair.rolled_back()
    snapshot = last_backup(pair)
    times = {step: end - begin for step, (begin, end) in steps.items()}
    times["rollback"] = max(end for _, end in steps.values()) - min(begin for begin, _ in steps.values())
    print("the data alone, without keeping what is there", file=sys.stderr)
    pair.run_script("production", OLD, "stop")
    discarding = ["restore", snapshot, "--into", "production", "--discard-current", "--reason", "measured", "--yes"]
    times["data alone"] = timed(lambda: pair.belay(discarding, {0, 3}))
    pair.run_script("production", OLD, "start")
    # What it takes where nothing has to be kept: the data come back the same way, without the snapshot beside it.
    times["without saving"] = times["rollback"] - times["put_back_production"] + times["data alone"]
    print("the same by hand", file=sys.stderr)
    by_hand = ByHand(pair, snapshot).measure()
    times.update(by_hand)
    times["by hand"] = sum(by_hand.values()) - max(by_hand[PIPED], by_hand[SPOOLED])
    return times


def main():
    program, megabytes, rounds = os.path.abspath(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory(prefix="belay-bench-") as work:
        os.chmod(work, 0o755)
        pair = Pair(program, work, megabytes, rounds)
        try:
            size = int(pair.sides[1].server.sql(f"SELECT pg_database_size('{DATABASES[0]}')", "postgres"))
            measured = [measure_round(pair, number) for number in range(rounds)]
        finally:
            pair.stop()
    sys.exit(report(size, measured))


def report(size, measured):
    version = PROGRAMS[-1].split("/")[-2]
    restic = subprocess.run(["restic", "version"], check=True, capture_output=True, text=True).stdout.split()[1]
    print(f"A database of {size / 1e6:.0f} MB, PostgreSQL {version}, restic {restic}, {os.cpu_count()} processors, {len(measured)} rounds.\n")
    middle = {part: statistics.median(times[part] for times in measured) for part in measured[0]}
    ratio = middle["rollback"] / middle["by hand"]

    def line(words, part):
        rounds = " | ".join(f"{times[part]:.2f}" for times in measured)
        print(f"| {words} | {rounds} | {middle[part]:.2f} |")

    print("| seconds | " + " | ".join(f"round {number + 1}" for number in range(len(measured))) + " | median |")
    print("| --- |" + " ---: |" * (len(measured) + 1))
    for step, words in STEPS.items():
        if step in middle:
            line(words, step)
    line("**the rollback, from its first step until users are in**", "rollback")
    line("the data alone, put back where nothing is saved", "data alone")
    line("a rollback that saves nothing", "without saving")
    for part in ["stop", PIPED, SPOOLED, "put in place", "restart"]:
        line(f"by hand: {part}", part)
    line("**by hand, the faster way**", "by hand")
    print("\nA rollback saves what the new version left in a snapshot, compares the rows of each table, gathers statistics and runs the pair's "
          "tests. By hand nothing is kept, compared or tested.")
    each = ", ".join(f"{times['rollback'] / times['by hand']:.2f}" for times in measured)
    print(f"\nRatio of the medians: **{ratio:.2f}** (of each round: {each}); without saving what the new version left "
          f"{middle['without saving'] / middle['by hand']:.2f}.")
    if ratio > MOST_OF_BY_HAND:
        print(f"tests/bench: {ratio:.2f} of the time by hand, at most {MOST_OF_BY_HAND} is wanted", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    main()
