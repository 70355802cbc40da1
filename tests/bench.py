"""Measures Belay against restic; called by tests/bench."""

import filecmp
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

MOST_OF_RESTICS_TIME = 0.6
MOST_MEMORY_MB = 160
STEPS = ["first snapshot", "second night", "restore", "check"]

# Regions of the second night, as (where it begins, how much of the file it is long).
REGIONS = [(0.03, 0.004), (0.19, 0.002), (0.37, 0.006), (0.55, 0.001), (0.71, 0.005), (0.88, 0.003), (0.985, 0.015)]


def rows(source, first_id):
    """Endless rows of a table, tab-separated as COPY prints them, about 200 bytes each."""
    names = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(4, 10))) for _ in range(5000)]
    cities = names[:300]
    number = first_id
    while True:
        bits = source.getrandbits(96)
        number += 1 + (bits & 3)
        name = names[(bits >> 2) % 5000]
        surname = names[(bits >> 15) % 5000]
        second = (bits >> 28) % 86400
        yield (
            f"{number}\t{name.title()} {surname.title()}\t{name}.{surname}{bits % 97}@example.org\t"
            f"2026-{1 + bits % 12:02}-{1 + (bits >> 5) % 28:02} {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
            f'.{bits >> 76:06}+00\t{{"city": "{cities[(bits >> 45) % 300]}", "token": "{bits >> 32:016x}",'
            f' "visits": {(bits >> 50) % 1000}, "active": {"true" if bits & 8 else "false"}}}\n'
        )


def make_first(path, size):
    source = random.Random(20260301)
    written = 0
    with open(path, "w", encoding="ascii", newline="\n", buffering=1 << 22) as file:
        written += file.write("COPY public.customers (id, name, mail, changed, data) FROM stdin;\n")
        for row in rows(source, 0):
            written += file.write(row)
            if written >= size:
                break
        file.write("\\.\n")


def make_second(first, path):
    """The first night's file with rows changed and inserted in a handful of regions: a few percent of its bytes."""
    size = os.path.getsize(first)
    source = random.Random(20260302)
    new_rows = rows(source, 1 << 40)
    with open(first, "rb", buffering=1 << 22) as old, open(path, "wb", buffering=1 << 22) as new:
        for begin, length in REGIONS:
            copy_until(old, new, int(begin * size))
            new.write(old.readline())
            end = int((begin + length) * size)
            while old.tell() < end:
                row = old.readline()
                if row == b"\\.\n" or not row:
                    new.write(row)
                    break
                if source.random() < 0.5:
                    row = row.replace(b"2026-", b"2027-").replace(b'"visits": ', b'"visits": 1')
                new.write(row)
                if source.random() < 0.05:
                    new.write(next(new_rows).encode("ascii"))
        shutil.copyfileobj(old, new, 1 << 22)


def copy_until(old, new, position):
    while (missing := position - old.tell()) > 0:
        new.write(old.read(min(missing, 1 << 22)))


def warm(path):
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 22):
            pass


def measure(arguments, environment):
    """Wall seconds, processor seconds and peak memory in MB of one command, which must succeed."""
    # What another command left to be written is not this one's to wait for.
    os.sync()
    with tempfile.TemporaryFile() as output:
        begin = time.monotonic()
        process = subprocess.Popen(arguments, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            sys.exit(f"{arguments}: exit {process.returncode}\n{output.read().decode(errors='replace')}")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * 1024 / 1e6}


def write_password(directory):
    descriptor = os.open(f"{directory}/password", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, b"a password for measuring\n")
    os.close(descriptor)


class Restic:
    name = "restic"

    def __init__(self, directory, source):
        self.source = source
        self.environment = dict(os.environ, RESTIC_REPOSITORY=f"{directory}/repository", HOME=directory,
                                RESTIC_PASSWORD_FILE=f"{directory}/password", RESTIC_CACHE_DIR=f"{directory}/cache")
        self.run(["init", "--repository-version", "2"])

    def run(self, arguments):
        return measure(["restic", "--quiet", *arguments], self.environment)

    def backup(self):
        return self.run(["backup", self.source])

    def restore(self, target):
        return self.run(["restore", "latest", "--target", target])

    def check(self):
        return self.run(["check", "--read-data"])


class Belay:
    name = "belay"
    program = None

    def __init__(self, directory, source):
        self.environment = dict(os.environ, HOME=directory)
        self.config = f"{directory}/belay.toml"
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(
                f'[repository.main]\nurl = {json.dumps(directory + "/repository")}\n'
                f'password = {json.dumps("file:" + directory + "/password")}\n\n'
                f'[state]\ndir = {json.dumps(directory + "/state")}\n\n[defaults]\nkeep = {{ last = 9 }}\n\n'
                f'[instance.dump]\nvia = "local"\n{self.of_instance(source)}\n'
            )
        self.run(["init"])

    def of_instance(self, source):
        return f'platform = "files"\npaths = [{json.dumps(source)}]'

    def run(self, arguments):
        return measure([self.program, "--config", self.config, *arguments], self.environment)

    def backup(self):
        return self.run(["backup", "dump"])

    def restore(self, target):
        return self.run(["restore", "latest:dump", "--to-dir", target])

    def check(self):
        return self.run(["check", "--read-data"])


def compare(target, original):
    found = [os.path.join(place, "database.dump") for place, _, names in os.walk(target) if "database.dump" in names]
    if len(found) != 1 or not filecmp.cmp(found[0], original, shallow=False):
        sys.exit(f"the restored file differs from {original}: {found}")


def round_of(tool, work, nights):
    """One run of all steps by one tool in directories of its own."""
    with tempfile.TemporaryDirectory(dir=work, prefix=f"{tool.name}-") as directory:
        source = f"{directory}/source"
        os.mkdir(source)
        write_password(directory)
        run = tool(directory, source)
        results = {}
        for step, night in zip(STEPS, nights):
            # A hard link in place of a copy: the night's file takes the place of the one before.
            place = f"{source}/database.dump"
            if os.path.exists(place):
                os.unlink(place)
            os.link(night, place)
            warm(place)
            os.sync()
            results[step] = run.backup()
        target = f"{directory}/target"
        os.sync()
        results["restore"] = run.restore(target)
        compare(target, nights[1])
        shutil.rmtree(target)
        os.sync()
        results["check"] = run.check()
        stored = sum(os.path.getsize(os.path.join(place, name))
                     for place, _, names in os.walk(f"{directory}/repository") for name in names)
        return results, stored


def main():
    Belay.program, megabytes, rounds = os.path.abspath(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory(prefix="belay-bench-") as work:
        nights = [f"{work}/first.dump", f"{work}/second.dump"]
        make_first(nights[0], megabytes * 1_000_000)
        make_second(*nights)
        measured = {tool.name: [] for tool in (Restic, Belay)}
        stored = {}
        for number in range(rounds):
            # Whoever comes second may find the disk busy or the machine warm.
            for tool in (Restic, Belay) if number % 2 == 0 else (Belay, Restic):
                results, stored[tool.name] = round_of(tool, work, nights)
                measured[tool.name].append(results)
                print(f"round {number + 1} of {rounds}: {tool.name} done", file=sys.stderr)
    sys.exit(report(measured, stored, megabytes, rounds))


def report(measured, stored, megabytes, rounds):
    median = {
        tool: {step: {key: statistics.median(one[step][key] for one in results) for key in ("wall", "cpu", "memory")}
               for step in STEPS}
        for tool, results in measured.items()
    }
    version = subprocess.run(["restic", "version"], check=True, capture_output=True, text=True).stdout.split()[1]
    print(f"A dump-like file of {megabytes} MB, medians of {rounds} rounds, {os.cpu_count()} processors, "
          f"restic {version}. Ratios are Belay / restic.\n")
    print("| step | wall s, restic | belay | ratio | processor s, restic | belay | ratio | peak MB, restic | belay |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    failures = []
    for step in STEPS:
        restic, belay = median["restic"][step], median["belay"][step]
        ratio = {key: belay[key] / max(restic[key], 0.001) for key in ("wall", "cpu")}
        print(f"| {step} | {restic['wall']:.2f} | {belay['wall']:.2f} | **{ratio['wall']:.2f}** "
              f"| {restic['cpu']:.2f} | {belay['cpu']:.2f} | **{ratio['cpu']:.2f}** "
              f"| {restic['memory']:.0f} | {belay['memory']:.0f} |")
        if step in STEPS[:2]:
            failures += [f"{step}: {ratio[key]:.2f} of restic's {name}, at most {MOST_OF_RESTICS_TIME} is wanted"
                         for key, name in (("wall", "wall time"), ("cpu", "processor time"))
                         if ratio[key] > MOST_OF_RESTICS_TIME]
    # The peak of any round counts, not the median's.
    peak = max(one[step]["memory"] for one in measured["belay"] for step in STEPS)
    if peak > MOST_MEMORY_MB:
        failures.append(f"{peak:.0f} MB of memory, at most {MOST_MEMORY_MB} are wanted")
    print(f"\nStored after both nights: restic {stored['restic'] / 1e6:.0f} MB, belay {stored['belay'] / 1e6:.0f} MB. "
          f"Belay's highest peak: {peak:.0f} MB.")
    for failure in failures:
        print(f"tests/bench: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    main()
