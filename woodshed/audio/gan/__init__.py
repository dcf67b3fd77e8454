"""A latent GAN in the manner of Musika: it plays new sound of any length, learned from your recordings alone.

    recordings -> codec -> latents -> generator against critic -> run -> new latents -> codec -> sound

M. Pasini and J. Schlüter, "Musika! Fast Infinite Waveform Music Generation" (2022), https://arxiv.org/abs/2208.08706
"""
