"""The house plan: imports point down, doors are imported by nobody, and what is heavy is loaded late."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import woodshed

ROOT = Path(woodshed.__file__).parent
FLOORS = [
    {"errors", "menu", "config", "files", "jobs", "log", "loudness", "page", "progress", "statistics"},
    {"symbolic.music"},
    {"symbolic.tokenizers"},
    {"symbolic.data", "symbolic.models", "symbolic.bases", "symbolic.run"},
    {"symbolic.playing"},
    {"symbolic.learning"},
    {"symbolic.judging"},
    {"audio.wave", "audio.spectrogram"},
    {"audio.labels", "audio.features", "audio.notes", "audio.codecs", "audio.crops"},
    {"audio"},
    {"cli", "studio", "__main__"},
]
HEAVY = {"torch", "transformers", "peft", "gradio", "datasets", "matplotlib", "miditok", "music21"} | {
    "soundfile",
    "librosa",
    "diffusers",
}
TORCH_FREE = {
    "symbolic.music": {"score", "midi", "chords", "grid", "harmonise", "measure"},
    "symbolic.data": {"inspect", "prepare", "corpus", "tasks", "originality"},
    "symbolic": {"tokenizers", "run"},
    "symbolic.playing": {"settings", "decode", "stage", "prompts"},
    "symbolic.learning": {"settings"},
}


def modules():
    return {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in ROOT.rglob("*.py")
    }


def floor(module: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if any(module == n or module.startswith(n + ".") for n in names))


def imports(path: Path, module: str) -> set[str]:
    """The modules of ours that a file imports anywhere."""
    found, package = set(), module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            for name in node.names:
                inner = ".".join([*base, name.name])
                found.add(inner if inner in modules() else ".".join(base))
    return {name for name in found if name in modules() and name not in ("", "symbolic", "audio", "__init__")}


@pytest.mark.parametrize("module", sorted(set(modules()) - {"__init__", "", "symbolic", "audio"}))
def test_imports_point_down(module):
    for other in imports(modules()[module], module):
        assert floor(other) <= floor(module), f"{module} imports {other}, which stands above it"
        sides = {module.split(".")[0], other.split(".")[0]}
        assert sides != {"symbolic", "audio"}, f"{module} imports {other}, of the other side"


def test_every_module_has_a_place_and_says_what_it_is_for():
    for module, path in modules().items():
        text = path.read_text(encoding="utf-8")
        assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{module} has no docstring"
        if module not in ("", "__init__", "symbolic", "audio"):
            floor(module)


def loaded(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after some code."""
    show = f"import sys; {code}; print(*[name for name in {sorted(HEAVY)!r} if name in sys.modules])"
    return set(subprocess.check_output([sys.executable, "-c", show], text=True).split())


def test_nothing_heavy_is_imported_before_it_is_used():
    assert loaded("import woodshed; woodshed.Score; woodshed.read_midi") == set()
    assert loaded("from woodshed.cli import main; main(['--help'])") & HEAVY == set()
    code = "; ".join(
        f"from woodshed.{package} import {', '.join(sorted(names))}" for package, names in TORCH_FREE.items()
    )
    assert loaded(code) == set()


def test_the_public_names_are_there():
    for name in woodshed.__all__:
        assert getattr(woodshed, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'gnerate'"):
        woodshed.gnerate  # noqa: B018
