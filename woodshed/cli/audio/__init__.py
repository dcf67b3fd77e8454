"""woodshed audio: the commands for recordings."""

ABOUT = "Teach a model to play like your recordings."
VERBS = {
    "scan": "look at a folder of recordings: what is readable, what is labelled, what is missing",
    "annotate": "tempo, key, captions and lyrics for recordings that have none",
    "transcribe": "MIDI of recordings, of a piano above all",
    "ace": "adapters for ACE-Step 1.5: your style over a large model",
    "codec": "learn to write recordings as latents, and check what is lost",
    "gan": "a model of your recordings alone, from scratch",
}
