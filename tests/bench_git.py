"""A nightly fetch of git repositories with nothing new, against stock git: called by tests/bench."""

import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

ROUNDS = 5
MOST_RATIO = 1.0
MOST_MEGABYTES = 100
ENVIRONMENT = {
    **os.environ,
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Dev", "GIT_AUTHOR_EMAIL": "dev@example.com",
    "GIT_COMMITTER_NAME": "Dev", "GIT_COMMITTER_EMAIL": "dev@example.com",
}


def run(*arguments, **options):
    subprocess.run(arguments, check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL, **options)


def make(root, name, refs):
    """A git repository with this many branches, a commit each."""
    server = root / f"{name}.git"
    run("git", "init", "-q", "--bare", "-b", "main", server)
    commands = ["commit refs/heads/main\nmark :1\ncommitter Dev <dev@example.com> 1767605400 +0100\ndata 5\nfirst\nM 644 inline file\ndata 2\n0\n"]
    for number in range(1, refs):
        commands.append(
            f"commit refs/heads/branch-{number}\ncommitter Dev <dev@example.com> {1767605400 + number} +0100\n"
            f"data 4\nnext\nfrom :1\nM 644 inline file\ndata {len(str(number)) + 1}\n{number}\n"
        )
    run("git", "fast-import", "--quiet", cwd=server, input="\n".join(commands).encode())
    return server


def measured(work):
    """The median, in seconds, of several rounds."""
    times = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        work()
        times.append(time.monotonic() - began)
    return sorted(times)[ROUNDS // 2]


def compare(belay, root, servers):
    """Seconds of Belay and of git, for all of these one after the other."""
    text = f'[repository.main]\nurl = "{root}/repository"\npassword = "file:{root}/password"\n[state]\ndir = "{root}/state"\n'
    mirrors = []
    for server in servers:
        text += f'[git.{server.stem}]\nplatform = "appsmith"\nurl = "{server}"\n'
        mirror = root / "stock" / server.name
        run("git", "clone", "-q", "--mirror", server, mirror)
        mirrors.append(mirror)
    (root / "belay.toml").write_text(text)
    command = [belay, "--config", root / "belay.toml", "apps", "fetch", "--quiet"]
    run(*command)

    def stock():
        for mirror in mirrors:
            run("git", "fetch", "-q", "--prune", "origin", cwd=mirror)

    stock()
    return measured(lambda: run(*command)), measured(stock)


def main():
    belay, repositories, refs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    print("| nothing new in | Belay | git fetch | ratio | limit |\n| --- | --- | --- | --- | --- |")
    failed = False
    # A night is all of them; the one alone is for knowing.
    night = (f"{repositories} git repositories, one of {refs} refs", [refs] + [5] * (repositories - 1), MOST_RATIO)
    for name, sizes, limit in [night, (f"the one of {refs} refs alone", [refs], None)]:
        with tempfile.TemporaryDirectory() as directory:
            root = pathlib.Path(directory)
            servers = [make(root, f"apps-{number}", size) for number, size in enumerate(sizes)]
            ours, theirs = compare(belay, root, servers)
        ratio = ours / theirs
        failed |= limit is not None and ratio > limit
        print(f"| {name} | {ours:.2f} s | {theirs:.2f} s | {ratio:.2f} | {limit or ''} |")
    megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    failed |= megabytes > MOST_MEGABYTES
    print(f"\nMost memory of any of the processes: {megabytes:.0f} MB (limit {MOST_MEGABYTES} MB).")
    sys.exit(failed)


main()
