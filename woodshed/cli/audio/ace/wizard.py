"""woodshed audio ace wizard"""

import subprocess
import sys
from pathlib import Path

from ....audio.ace.wizard import BACK, HELP, QUESTIONS, again, as_line, ask, commands, read_answers, save
from ....jobs import own_process

INTERRUPTED = 130  # as shells have it


def command(answers: Path | None = None):
    """From a folder of recordings to an adapter by questions and answers.

    b goes back to the question before, ? explains, return takes what stands in brackets. The answers end in commands,
    which are shown before anything is run.

    Args:
        answers: the answers.json of another time, to begin with
    """
    known = read_answers(answers) if answers else None
    print(f"{BACK}: back; {HELP}: what it is about; return: what stands in [ ].\n")
    given = ask(QUESTIONS, read=input, say=print, known=known)
    print("\n" + "\n".join(f"{path}: written" for path in save(given)))
    if given["start"] == "run":
        run_all(commands(given))


def run_all(steps: list[list[str]]) -> None:
    """One command after the other, each in a process of its own, whose memory is free again before the next. The first
    that fails, or that Ctrl-C ends, is the last; what is left is printed, and how that one goes on."""
    for number, step in enumerate(steps):
        print(f"\n{as_line(now := again(step))}", flush=True)
        if status := _run(own_process("woodshed", *now)):
            left = [again(step), *steps[number + 1 :]]
            print("\n".join(["", "Then go on with:", *map(as_line, left)]), flush=True)
            sys.exit(status)


def _run(command: list[str]) -> int:
    """The status of a command. Ctrl-C reaches it too, and it may take its time to save."""
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            return process.wait() or INTERRUPTED
