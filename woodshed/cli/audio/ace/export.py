"""woodshed audio ace export"""

from pathlib import Path

from ....audio.ace.export import Layout, export
from ....audio.ace.layouts import read_adapter
from ...terminal import RunPath


def command(run: RunPath, layout: Layout, out: Path):
    """Write an adapter as another program reads it.

    Args:
        run: a run of ours, or an adapter in any layout that woodshed audio ace generate takes
        layout: comfyui: one file for its models/loras; ace-step: a folder for "Load LoRA" on its own page; diffusers:
            a folder for pipe.load_lora_weights
        out: the file or folder to write
    """
    adapter = read_adapter(run)
    path = export(adapter, out, layout=layout)
    print(f"{path}: {adapter.kind} over {len(adapter.modules)} modules, for {layout}")
