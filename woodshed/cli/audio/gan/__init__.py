"""woodshed audio gan"""

ABOUT = "A latent GAN, trained on your recordings alone."
VERBS = {
    "inspect": "is there enough to learn from, and is it equally loud",
    "train": "teach a model: a folder and a codec in, a run out",
    "generate": "new sound, as long as you like",
    "evaluate": "how near its sound is to recordings it has not learned",
}
