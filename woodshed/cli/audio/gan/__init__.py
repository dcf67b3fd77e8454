"""woodshed audio gan"""

ABOUT = "A latent GAN, trained on your recordings alone."
VERBS = {
    "inspect": "is it enough, and even enough, to learn from",
    "train": "teach a model: a folder and a codec in, a run out",
    "generate": "new sound of any length",
    "evaluate": "how near its sound is to recordings it has not learned",
}
