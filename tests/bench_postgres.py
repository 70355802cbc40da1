"""Measures a snapshot of a live database against `pg_dump -Fc -Z0 >/dev/null`; called by `tests/bench postgres`."""

import glob
import json
import os
import pwd
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from bench import Belay, measure, write_password

MOST_OF_PG_DUMPS_TIME = 1.1
DATABASE = "production"
ROWS_OF_A_MEGABYTE = 3700
STEPS = ["first snapshot", "second night"]
PROGRAMS = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[-2]))

# About a megabyte of dump each: rows of people, apps' definitions and files, as 11 : 6 : 3 of its bytes. The definitions
# are `json`, as ToolJet has them.
SEED = """
CREATE FUNCTION word(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT translate(substr(md5(n::text), 1, 4 + (n % 7)::int), '0123456789abcdef', 'aeioulnrstmkpbdg') $$;
CREATE TABLE customers (id bigint PRIMARY KEY, name text, mail text, changed timestamptz, city text, street text,
  token uuid, visits int, active boolean, notes text);
INSERT INTO customers SELECT g, initcap(word(g % 5000)) || ' ' || initcap(word(g * 7919 % 4999)),
  word(g % 5000) || '.' || word(g * 7919 % 4999) || g % 97 || '@example.org',
  timestamptz '2026-01-01' + g * interval '7.123 seconds', initcap(word(g % 300)), initcap(word(g % 9000)) || ' ' || g % 120,
  md5(g::text)::uuid, g * 31 % 1000, g % 3 = 0, word(g % 77) || ' ' || word(g % 1013) || ' ' || word(g % 311)
  FROM generate_series(1::bigint, {rows}) g;
CREATE INDEX ON customers (mail);
CREATE TABLE app_versions (id bigint PRIMARY KEY, name text, definition json);
INSERT INTO app_versions SELECT v, 'v' || v, (SELECT json_agg(json_build_object('id', md5(v || '-' || c)::uuid,
    'name', word(c) || c, 'type', (ARRAY['Button', 'Table', 'TextInput', 'Chart'])[1 + c % 4],
    'properties', json_build_object('label', word(c * v), 'visible', true, 'tooltip', word(c) || ' ' || word(v)),
    'styles', json_build_object('width', c % 40, 'height', c % 30, 'top', c * 10, 'left', v % 40),
    'events', json_build_array(json_build_object('on', 'click', 'run', word(c + v), 'query', md5(c::text)))))
  FROM generate_series(1::bigint, 150) c) FROM generate_series(1::bigint, {megabytes} * 6) v;
CREATE TABLE files (id bigint PRIMARY KEY, name text, data bytea);
ALTER TABLE files ALTER data SET STORAGE EXTERNAL;
INSERT INTO files SELECT f, word(f) || '.png',
  (SELECT string_agg(sha512((f || '-' || b)::bytea), '') FROM generate_series(1, 2000) b)
  FROM generate_series(1::bigint, {megabytes} * 6 / 10) f;
CREATE TABLE visits (at timestamptz DEFAULT now(), customer bigint);
VACUUM ANALYZE;
"""

# What a client goes on doing, a hundred times a second.
CLIENT = """\\set id random(1, {rows})
UPDATE customers SET changed = now(), visits = visits + 1 WHERE id = :id;
INSERT INTO visits (customer) VALUES (:id);
SELECT * FROM customers WHERE id = :id;
"""

# What was done until the next night, in a handful of regions.
NIGHT = """
UPDATE customers SET changed = now(), notes = notes || ' {night}' WHERE id % 100000 BETWEEN 20000 AND 22000;
UPDATE app_versions SET definition = json_build_array(definition -> 0, {night}, definition -> 2) WHERE id % 50 = 7;
INSERT INTO files SELECT {night} * 100000 + id, name, data || '\\x00' FROM files WHERE id % 40 = 3 AND id < 100000;
CHECKPOINT;
"""


class Share:
    """A control group of the kernel's scheduler: who is in it gets so much of one processor."""

    PLACES = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup"]
    PERIOD = 10000

    def __init__(self, percent):
        self.group = None
        if percent is None:
            return
        quota = self.PERIOD * percent // 100
        for place in self.PLACES:
            group = f"{place}/belay-bench-{os.getpid()}"
            try:
                os.mkdir(group)
                self.group = group
                if os.path.exists(f"{group}/cpu.max"):
                    self.write("cpu.max", f"{quota} {self.PERIOD}")
                else:
                    self.write("cpu.cfs_period_us", self.PERIOD)
                    self.write("cpu.cfs_quota_us", quota)
                return
            except OSError:
                self.remove()
        sys.exit(f"tests/bench: none of {', '.join(self.PLACES)} takes a share of a processor")

    def write(self, name, value):
        with open(f"{self.group}/{name}", "w", encoding="ascii") as file:
            file.write(str(value))

    def enter(self):
        if self.group:
            self.write("cgroup.procs", os.getpid())

    def remove(self):
        if self.group:
            os.rmdir(self.group)
            self.group = None


class Server:
    """A private cluster, over its socket alone."""

    def __init__(self, directory, share):
        if not PROGRAMS:
            sys.exit("tests/bench: PostgreSQL is missing: apt-get install postgresql")
        self.directory = directory
        # The server refuses to run as root.
        self.prefix = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(directory, user.pw_uid, user.pw_gid)
            self.prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
        os.chmod(directory, 0o755)
        self.environment = dict(os.environ, PGHOST=directory, PGPORT="5432", PGUSER="postgres", PGDATABASE="postgres")
        self.run(["initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-D", f"{directory}/data"])
        self.log = open(f"{directory}/log", "wb")
        self.process = subprocess.Popen(
            self.command(["postgres", "-D", f"{directory}/data", "-k", directory, "-c", "listen_addresses=", "-c", "max_wal_size=4GB"]),
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, preexec_fn=share.enter)
        while subprocess.run(self.command(["pg_isready", "-q"]), env=self.environment, check=False).returncode != 0:
            if self.process.poll() is not None:
                sys.exit(f"tests/bench: the server ended: {open(self.log.name, encoding='utf-8').read()}")
            time.sleep(0.05)

    def command(self, arguments):
        return [*self.prefix, f"{PROGRAMS[-1]}/{arguments[0]}", *arguments[1:]]

    def run(self, arguments, statements=None):
        done = subprocess.run(self.command(arguments), env=self.environment, input=statements, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            sys.exit(f"tests/bench: {arguments}: {done.stdout}")
        return done.stdout

    def sql(self, statements, database=DATABASE):
        return self.run(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database], statements)

    def start_client(self, rows):
        script = f"{self.directory}/client.sql"
        with open(script, "w", encoding="utf-8") as file:
            file.write(CLIENT.format(rows=rows))
        return subprocess.Popen(self.command(["pgbench", "-n", "-R", "100", "-T", "1000000", "-f", script, DATABASE]),
                                env=self.environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def stop(self):
        self.process.send_signal(2)
        self.process.wait()
        self.log.close()


class BelayOfDatabase(Belay):
    """Belay with the database of a server as the instance."""

    def of_instance(self, source):
        return (f'platform = "postgres"\ncomponent.postgres = {{ host = {json.dumps(source.directory)}, port = 5432, '
                f'user = "postgres", databases = ["{DATABASE}"], tools = "{PROGRAMS[-1]}" }}')


def main():
    Belay.program, megabytes, rounds = os.path.abspath(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    host = int(sys.argv[4])
    # Of that many processors a backend keeps one busy at most: here the same share of what there is.
    percent = 100 * os.cpu_count() // host if host > os.cpu_count() else None
    share = Share(percent)
    with tempfile.TemporaryDirectory(prefix="belay-bench-") as work:
        os.chmod(work, 0o755)
        os.mkdir(f"{work}/server")
        server = Server(f"{work}/server", share)
        client = None
        try:
            rows = megabytes * ROWS_OF_A_MEGABYTE
            server.sql(f"CREATE DATABASE {DATABASE}", "postgres")
            server.sql(SEED.format(megabytes=megabytes, rows=rows))
            client = server.start_client(rows)
            pairs = {step: [] for step in STEPS}
            for number in range(rounds):
                one_round(server, work, number, pairs)
                print(f"round {number + 1} of {rounds} done", file=sys.stderr)
            if client.poll() is not None:
                sys.exit(f"tests/bench: the client ended: {open(server.log.name, encoding='utf-8').read()}")
            size = int(subprocess.run(
                f"{PROGRAMS[-1]}/pg_dump -Fc -Z0 {DATABASE} | wc -c",
                env=server.environment, shell=True, check=True, capture_output=True, text=True).stdout)
        finally:
            if client:
                client.terminate()
                client.wait()
            server.stop()
            share.remove()
    sys.exit(report(pairs, size, rounds, percent, host))


def one_round(server, work, number, pairs):
    """Both snapshots into a repository of its own, each beside a plain dump."""
    directory = tempfile.mkdtemp(dir=work)
    write_password(directory)
    belay = BelayOfDatabase(directory, server)
    dump = ["sh", "-c", f"exec {PROGRAMS[-1]}/pg_dump -Fc -Z0 {DATABASE} >/dev/null"]
    tools = {"pg_dump": lambda: measure(dump, server.environment), "belay": belay.backup}
    for step in STEPS:
        if step == STEPS[1]:
            server.sql(NIGHT.format(night=number + 1))
        # Whoever comes second may find the disk busy or the machine warm.
        order = list(tools) if number % 2 == 0 else list(reversed(tools))
        pairs[step].append({name: tools[name]() for name in order})
    shutil.rmtree(directory)


def report(pairs, size, rounds, percent, host):
    share = "" if percent is None else f", the server with {percent} % of one, as on a host of {host}"
    version = PROGRAMS[-1].split("/")[-2]
    print(f"A database of {size / 1e6:.0f} MB (as `pg_dump -Fc -Z0` gives it) that a client writes to, PostgreSQL {version}, "
          f"medians of {rounds} pairs, {os.cpu_count()} processors{share}.\n")
    print("| step | wall s, pg_dump | belay | ratio of medians | ratios of the pairs | processor s, pg_dump | belay | peak MB, belay |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    failures = []
    for step in STEPS:
        median = {name: {key: statistics.median(pair[name][key] for pair in pairs[step]) for key in ("wall", "cpu")}
                  for name in ("pg_dump", "belay")}
        peak = max(pair["belay"]["memory"] for pair in pairs[step])
        ratio = median["belay"]["wall"] / median["pg_dump"]["wall"]
        single = sorted(pair["belay"]["wall"] / pair["pg_dump"]["wall"] for pair in pairs[step])
        print(f"| {step} | {median['pg_dump']['wall']:.2f} | {median['belay']['wall']:.2f} | **{ratio:.2f}** "
              f"| {single[0]:.2f} to {single[-1]:.2f} | {median['pg_dump']['cpu']:.2f} | {median['belay']['cpu']:.2f} | {peak:.0f} |")
        if ratio > MOST_OF_PG_DUMPS_TIME:
            failures.append(f"{step}: {ratio:.2f} of pg_dump's time, at most {MOST_OF_PG_DUMPS_TIME} is wanted")
    print("\nProcessor seconds are those of the command and its children, without the server's.")
    for failure in failures:
        print(f"tests/bench: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    main()
