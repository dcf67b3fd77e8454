"""From a folder of recordings to an adapter by questions and answers, which end in commands.

    answers = ask(QUESTIONS, read=input, say=print)     every answer can be taken back with b
    for command in commands(answers): ...               audio scan, annotate, ace prepare, ace train, ace generate

The answers that are about training are a preset: `woodshed audio ace train --preset FILE`. Nothing here trains.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...config import allowed
from ...errors import FileError, InputError, WoodshedError
from ...files import make_folder, quoted, read_object, visible, write_object
from ..wave import audio_files
from .run import FACTS
from .settings import TrainSettings, read_preset

BACK, HELP = "b", "?"
MEMORY = allowed(TrainSettings)["memory"][0][1]  # GB that there are profiles for
BASE = "Runware/acestep-v15-turbo-diffusers"
ANSWERS, PRESET = "answers.json", "preset.json"
TRAIN = ["audio", "ace", "train"]
Answers = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """One thing to know: `read` makes a value of what was typed, or raises a WoodshedError that says why not."""

    name: str
    text: str
    read: Callable[[str], Any]
    default: Callable[[Answers], Any] = lambda answers: None
    help: str = ""
    wanted: Callable[[Answers], bool] = lambda answers: True
    before: Callable[[Answers], str] = lambda answers: ""  # what is shown first


def ask(
    questions: Sequence[Question],
    *,
    read: Callable[[str], str],
    say: Callable[[str], None],
    known: Answers | None = None,
) -> Answers:
    """Ask one question after the other: return takes the default, b goes back one question, ? explains.

    `read(prompt)` answers a line; `known` are answers of another time, which are the defaults. Raises InputError where
    the answers end before the questions do.
    """
    answers, at = dict(known or {}), 0
    while at < len(questions):
        question = questions[at]
        if not question.wanted(answers):
            answers.pop(question.name, None)
            at += 1
            continue
        if told := question.before(answers):
            say(told)
        typed = _line(question, answers, read)
        if typed == BACK:
            at = max((n for n in range(at) if questions[n].wanted(answers)), default=0)
        elif typed == HELP:
            say(question.help or "There is no more to say about it.")
        else:
            try:
                answers[question.name] = question.read(typed)
                at += 1
            except WoodshedError as error:
                say(str(error))
    return {question.name: answers[question.name] for question in questions if question.name in answers}


def _line(question: Question, answers: Answers, read: Callable[[str], str]) -> str:
    """What was typed, or the default."""
    default = answers.get(question.name, question.default(answers))
    shown = "" if default in (None, "") else f" [{_shown(default)}]"
    try:
        typed = read(f"{question.text}{shown} ").strip()
    except EOFError:
        raise InputError(f"the answers end before {question.name!r}; nothing was started") from None
    return typed or ("" if default is None else _shown(default))


def _shown(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


# --- the questions ---------------------------------------------------------------------------------------------


def _folder(typed: str) -> str:
    if not typed:
        raise InputError("give the folder that holds your recordings")
    audio_files(Path(typed).expanduser())  # refuses one without any
    return str(Path(typed).expanduser())


def _base(typed: str) -> str:
    if (Path(typed).expanduser() / "model_index.json").is_file():
        return str(Path(typed).expanduser())
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", typed) or Path(typed).exists():
        raise InputError(f"{typed or 'nothing'} is no ACE-Step: give a folder with a model_index.json, or owner/name")
    return typed


def _new_folder(typed: str) -> str:
    """A folder of the wizard's from another time is new as well: its commands go on there."""
    path = Path(typed).expanduser()
    there = {found.name for found in visible(path)} if path.is_dir() else set()
    if not typed or path.is_file() or (there and ANSWERS not in there):
        raise InputError(f"{typed or 'nothing'}: give a folder that is new or empty")
    return str(path)


def _existing(typed: str) -> str:
    path = Path(typed).expanduser()
    if typed and not path.is_dir():
        raise InputError(f"{typed}: there is no such folder; give one that holds a Whisper model, or nothing")
    return str(path) if typed else ""


def _yes(typed: str) -> bool:
    if typed.casefold() not in ("y", "yes", "n", "no"):
        raise InputError(f"{typed!r}: answer yes or no")
    return typed.casefold().startswith("y")


def _one_of(*choices: Any) -> Callable[[str], Any]:
    """The choice that was typed, or begun to be."""

    def read(typed: str) -> Any:
        begun = [choice for choice in choices if typed and str(choice).startswith(typed.casefold())]
        exact = [choice for choice in begun if str(choice) == typed.casefold()]
        if len(exact or begun) != 1:
            raise InputError(f"{typed!r}: choose from {', '.join(map(str, choices))}")
        return (exact or begun)[0]

    return read


def _tag(typed: str) -> str:
    return "" if typed in ("-", "none") else typed


def _slug(answers: Answers) -> str:
    return re.sub(r"[^\w-]+", "-", Path(answers["folder"]).resolve().name.casefold()).strip("-") or "my-style"


GOALS = {
    "quick": "a LoKr in few epochs, to see whether it works at all",
    "balanced": "what the tutorial trains",
    "best": "longer; without a memory limit also over more of the model",
}
KINDS = {
    "lora": "what most programs play",
    "lokr": "a fiftieth of its size, quick to train, and it learns less",
    "dora": "a LoRA that learns more of a small rank; slower, and ComfyUI cannot play it",
}


def _choices(told: dict[str, str]) -> str:
    return "\n".join(f"  {name:<9} {about}" for name, about in told.items())


QUESTIONS = (
    Question(
        "folder",
        "Where are your recordings?",
        _folder,
        help="A folder of wav, flac, ogg, opus or mp3 files: your own work. Ten songs are a beginning, a hundred good.",
    ),
    Question(
        "sung",
        "Does anybody sing in them?",
        _yes,
        lambda answers: False,
        "With singing, the lyrics are learned too: from song.lyrics.txt beside song.mp3, or as Whisper hears them.",
    ),
    Question(
        "whisper",
        "Folder of a Whisper model that writes lyrics down, or nothing to leave them as they are?",
        _existing,
        lambda answers: "",
        "faster-whisper's layout, such as a download of Systran/faster-whisper-large-v3. Read what it wrote by hand.",
        lambda answers: answers.get("sung", False),
    ),
    Question(
        "tag",
        "A word that shall call up your style in a prompt (- for none)?",
        _tag,
        _slug,
        "It stands before every caption in training; write it in your prompts later. Choose a word of your own.",
    ),
    Question(
        "base",
        "Which ACE-Step 1.5?",
        _base,
        lambda answers: BASE,
        "A folder in the layout of diffusers, or a Hugging Face id. Play with the same one that you train on.",
    ),
    Question(
        "memory",
        "How much memory has your graphics card, in GB (8, 12, 16, 24; none)?",
        _one_of(*MEMORY, "none"),
        lambda answers: 16,
        "Take the next smaller number. Without a card, training a real model takes weeks.",
    ),
    Question(
        "goal",
        "quick, balanced or best?",
        _one_of(*GOALS),
        lambda answers: "balanced",
        _choices(GOALS),
    ),
    Question(
        "kind",
        "lora, lokr or dora?",
        _one_of(*KINDS),
        lambda answers: "lokr" if answers["goal"] == "quick" else "lora",
        _choices(KINDS),
    ),
    Question(
        "out",
        "Where shall it all go?",
        _new_folder,
        lambda answers: f"{_slug(answers)}-ace",
        "A new folder for the dataset, the tensors, the adapter and these answers.",
    ),
    Question(
        "start",
        "Run them now, or print them (run, print)?",
        _one_of("run", "print"),
        lambda answers: "print",
        "Each can be interrupted and called again, and goes on where it was; b changes an answer.",
        before=lambda answers: "\n".join(["", *map(as_line, map(again, commands(answers))), ""]),
    ),
)


# --- what follows from the answers -------------------------------------------------------------------------------


def preset(answers: Answers) -> dict:
    """The settings of training that the answers ask for."""
    chosen = {} if answers["goal"] == "balanced" else read_preset(answers["goal"])
    if answers["memory"] in MEMORY:
        chosen |= read_preset(f"memory-{answers['memory']}")
    return chosen | {"kind": answers["kind"]}


def commands(answers: Answers) -> list[list[str]]:
    """The words of each command after `woodshed`, in their order."""
    out = Path(answers["out"])
    dataset, tensors, run = (str(out / name) for name in ("dataset.json", "tensors", "run"))
    scan = ["audio", "scan", answers["folder"], "--out", dataset]
    scan += ["--custom-tag", answers["tag"]] if answers["tag"] else []
    scan += ["--all-instrumental", "False" if answers["sung"] else "True"]
    annotate = ["audio", "annotate", dataset]
    if answers.get("whisper"):
        annotate += ["--whisper", answers["whisper"]]
    prompt = ", ".join(part for part in (answers["tag"], "a piece in this style") if part)
    return [
        scan,
        annotate,
        ["audio", "ace", "prepare", dataset, "--base", answers["base"], "--out", tensors],
        [*TRAIN, tensors, "--out", run, "--preset", str(out / PRESET)],
        ["audio", "ace", "generate", answers["base"], "--adapter", run, "--prompt", prompt, "--compare-base"],
    ]


def again(command: Sequence[str]) -> list[str]:
    """A command that was broken off, as it goes on: a training that has begun is told to."""
    begun = list(command[:3]) == TRAIN and (Path(command[command.index("--out") + 1]) / FACTS).exists()
    return [*command, *(["--resume"] if begun else [])]


def as_line(command: Sequence[str]) -> str:
    """A command as it is typed."""
    return " ".join(["woodshed", *map(quoted, command)])


def save(answers: Answers) -> list[Path]:
    """Write the answers, all but whether to start, and the preset into the folder they name; answers the two files."""
    out = Path(answers["out"])
    make_folder(out)
    kept = {name: value for name, value in answers.items() if name != "start"}
    files = {out / ANSWERS: kept, out / PRESET: preset(answers)}
    for path, data in files.items():
        write_object(path, data)
    return list(files)


def read_answers(path: str | Path) -> Answers:
    """Answers of another time, to begin with. Raises FileError."""
    try:
        answers = read_object(path)
    except (OSError, ValueError) as error:
        raise FileError(path, f"holds no answers: {error}") from None
    names = {question.name for question in QUESTIONS}
    if not answers.keys() <= names:
        raise FileError(path, f"holds no answers of this wizard, which are {', '.join(sorted(names))}")
    return answers
