#!/usr/bin/env python3
"""Stands in for a program of PostgreSQL's, and kills whoever started it at a chosen step.

Usage: killing.py DIRECTORY REAL_PROGRAM [ARGUMENT]...

A step is the start of a program, a statement for psql that is no query, psql's word that all before is done, a part of an archive, and a
program's end. Each is written to DIRECTORY/steps; the one whose number is in DIRECTORY/kill-at is not made: the real program
ends first, having done all before that step, and then Belay is killed without having been told.
"""
import fcntl, os, pathlib, signal, subprocess, sys

PART_BYTES = 256 * 1024
directory, real, arguments = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
program = os.path.basename(real)


def is_last(what):
    with open(directory / "steps", "a+") as steps:
        fcntl.flock(steps, fcntl.LOCK_EX)
        steps.seek(0)
        number = len(steps.readlines()) + 1
        steps.write(f"{program}: {what}\n")
    return number == int((directory / "kill-at").read_text())


def kill():
    os.kill(os.getppid(), signal.SIGKILL)
    sys.exit(1)


def parts(stream):
    while part := stream.read(PART_BYTES):
        yield part


def statements(stream):
    """Lines, and which of them are steps: those that begin a statement, and the end of several. How a session begins is none, nor
    are queries: how many of them look on while others work is not the same each time."""
    begins, is_query, is_beginning = False, False, True
    for line in stream:
        is_query = line.startswith(b"SELECT coalesce") if begins and not line.startswith(b"\\") else is_query
        yield line, begins and not is_query and not is_beginning
        text = line.rstrip()
        is_beginning = is_beginning and not text.startswith(b"\\echo")
        begins = text.endswith((b";", b"/dev/null")) or text.startswith(b"\\")


if is_last("starts"):
    kill()
if program in ("psql", "pg_restore"):
    running = subprocess.Popen([real, *arguments], stdin=subprocess.PIPE)
    given = statements(sys.stdin.buffer) if program == "psql" else ((part, True) for part in parts(sys.stdin.buffer))
    for content, is_step in given:
        if is_step and is_last(content.decode().strip()[:200] if program == "psql" else "part"):
            running.communicate()
            kill()
        try:
            running.stdin.write(content)
            running.stdin.flush()
        except BrokenPipeError:
            break
    running.communicate()
else:
    running = subprocess.Popen([real, *arguments], stdout=subprocess.PIPE)
    for part in parts(running.stdout):
        if is_last("part"):
            running.kill()
            running.wait()
            kill()
        sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
    running.wait()
if program != "psql" and is_last("ends"):
    kill()
sys.exit(running.returncode if running.returncode >= 0 else 128 - running.returncode)
