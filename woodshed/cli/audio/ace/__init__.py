"""woodshed audio ace"""

ABOUT = "Teach ACE-Step 1.5 your style: LoRA, DoRA and LoKr adapters."
VERBS = {
    "prepare": "a dataset to tensors, once",
    "estimate": "which modules the music moves most, and so the rank of each",
    "train": "an adapter: tensors in, a run out",
    "wizard": "the same by questions and answers",
    "generate": "text, a song to cover or a stretch to repaint in; sound out",
    "export": "an adapter in the layout of ComfyUI, ACE-Step's own page or diffusers",
}
