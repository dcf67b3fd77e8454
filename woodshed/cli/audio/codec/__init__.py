"""woodshed audio codec"""

ABOUT = "Recordings as latents, and back."
VERBS = {
    "train": "learn a codec from a folder of recordings",
    "check": "what is lost on the way to latents and back, before anything is trained on them",
}
