"""Adapters for other programs: their names, their products, and the adapter again when it is read back."""

import errno
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("peft")

from ace_toys import base  # noqa: E402, F401
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from test_ace_adapters import (  # noqa: E402, F401
    KINDS,
    _no_gradients,
    close,
    copied,
    pipe,
    played,
    runs,
    same_changes,
    velocity,
)

from woodshed.audio.ace.export import export  # noqa: E402
from woodshed.audio.ace.layouts import CONFIG, LYCORIS, PEFT, ace_name, read_adapter  # noqa: E402
from woodshed.audio.ace.pipeline import open_pipeline  # noqa: E402
from woodshed.errors import FileError, InputError, RunError  # noqa: E402
from woodshed.jobs import quiet  # noqa: E402

# pytest hands over fixtures by names that are imported here
# ruff: noqa: F811


@pytest.mark.parametrize("layout", ["comfyui", "ace-step", "diffusers"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_exported_is_the_adapter_again(pipe, runs, tmp_path, kind, layout):
    run, wanted = runs[kind]
    if (kind, layout) == ("dora", "comfyui"):
        with pytest.raises(RunError, match="measures the rows of a DoRA in another way"):
            export(run, tmp_path / "out", layout=layout)
        assert not any(tmp_path.iterdir())
        return
    out = export(run, tmp_path / "deep" / "out", layout=layout)
    again = read_adapter(out)
    assert not again.remarks
    assert same_changes(again, read_adapter(run))
    assert close(played(pipe, (again, 1.0)), wanted)
    with pytest.raises(InputError, match="exists already"):
        export(run, out, layout=layout)


def keys(file: Path) -> set[str]:
    return set(load_file(file))


def test_comfyui_finds_its_names(runs, tmp_path):
    """comfy/lora.py, model_lora_keys_unet, of ACEStep15: what it makes of the names of its own weights."""
    modules = [ace_name(name) for name in read_adapter(runs["lora"][0]).modules]
    assert "layers.0.self_attn.o_proj" in modules
    lora = keys(export(runs["lora"][0], tmp_path / "lora.safetensors", layout="comfyui"))
    parts = ("lora_A.weight", "lora_B.weight", "alpha")
    assert lora == {f"base_model.model.{name}.{part}" for name in modules for part in parts}
    lokr = keys(export(runs["lokr"][0], tmp_path / "lokr", layout="comfyui"))
    assert {name.partition(".")[0] for name in lokr} == {"lycoris_" + name.replace(".", "_") for name in modules}
    assert {name.partition(".")[2] for name in lokr} <= {"lokr_w1", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "alpha"}


def test_comfyui_computes_the_same(runs, tmp_path):
    """comfy/weight_adapter: alpha / rank, and no scale at all for a LoKr of two whole factors."""
    for kind in ("lora", "lokr"):
        ours, file = read_adapter(runs[kind][0]), load_file(export(runs[kind][0], tmp_path / kind, layout="comfyui"))
        for module in ours.modules:
            name = ("base_model.model." + ace_name(module), "lycoris_" + ace_name(module).replace(".", "_"))[
                kind == "lokr"
            ]
            part = {key.removeprefix(f"{name}."): value for key, value in file.items() if key.startswith(f"{name}.")}
            if kind == "lora":
                down = part["lora_A.weight"]
                change = part["alpha"] / down.shape[0] * part["lora_B.weight"] @ down
            else:
                rank = part["lokr_w2_b"].shape[0] if "lokr_w2_b" in part else None
                second = part["lokr_w2"] if rank is None else part["lokr_w2_a"] @ part["lokr_w2_b"]
                change = (1.0 if rank is None else part["alpha"] / rank) * torch.kron(part["lokr_w1"], second)
            assert close(change, ours.change(module, torch.zeros(1)))


def test_ace_steps_page_finds_its_files(runs, tmp_path):
    for kind in ("lora", "dora"):
        out = export(runs[kind][0], tmp_path / kind, layout="ace-step")
        config = json.loads((out / CONFIG).read_text())
        assert {config["peft_type"], config["r"], config["lora_alpha"]} == {"LORA", 4, 12}
        assert config["use_dora"] == (kind == "dora")
        assert all(key.startswith("base_model.model.layers.") for key in keys(out / PEFT))
        assert {name.rpartition(".")[2] for name in config["target_modules"]} == {
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "down_proj"
        }  # fmt: skip
    out = export(runs["lokr"][0], tmp_path / "lokr", layout="ace-step")
    with safe_open(out / LYCORIS, framework="pt") as file:
        config = json.loads(file.metadata()["lokr_config"])
    assert config["full_matrix"] and config["factor"] == -1
    assert {key.partition(".")[2] for key in keys(out / LYCORIS)} == {"lokr_w1", "lokr_w2", "alpha"}


@pytest.mark.parametrize("kind", KINDS)
def test_diffusers_itself_plays_what_is_exported_for_it(base, pipe, runs, tmp_path, kind):
    folder, wanted = runs[kind]
    out, theirs = export(folder, tmp_path / "out", layout="diffusers"), copied(pipe)
    with quiet("diffusers", "transformers"):
        theirs.transformer.load_lora_adapter(out, use_safetensors=True)
        assert close(velocity(theirs), wanted)
        if kind == "lora":
            whole = open_pipeline(base)
            whole.load_lora_weights(out)
            assert close(velocity(whole), wanted)


@pytest.mark.parametrize("layout", ["comfyui", "ace-step", "diffusers"])
def test_a_full_disk_is_one_line_and_leaves_nothing(runs, tmp_path, monkeypatch, layout):
    def full(path, data):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FileError, match=r"cannot be written: No space left on device$"):
        export(runs["lora"][0], tmp_path / "deep" / "out", layout=layout)
    assert not any(tmp_path.iterdir())


def test_another_layout_is_refused_by_name(runs, tmp_path):
    with pytest.raises(InputError, match="--layout comfy: choose from comfyui, ace-step, diffusers"):
        export(runs["lora"][0], tmp_path / "out", layout="comfy")
    assert not any(tmp_path.iterdir())


def test_peft_itself_opens_what_is_exported_for_ace_step(runs, tmp_path, pipe):
    """On a model that calls its projections as ACE-Step does."""
    from peft import PeftModel

    out = export(runs["lora"][0], tmp_path / "out", layout="ace-step")
    ours = read_adapter(runs["lora"][0])

    class Bag(torch.nn.Module):
        def forward(self, given):
            return given

    model = Bag()
    for module in ours.modules:
        place = model
        *path, last = ace_name(module).split(".")
        for step in path:
            if not hasattr(place, step):
                place.add_module(step, Bag())
            place = getattr(place, step)
        rows, columns = ours.shape(module)
        place.add_module(last, torch.nn.Linear(columns, rows, bias=False))
    theirs = PeftModel.from_pretrained(model, str(out))
    for module in ours.modules:
        layer = theirs.get_submodule("base_model.model." + ace_name(module))
        assert close(layer.get_delta_weight("default"), ours.change(module, torch.zeros(1)))
