"""A latent GAN in the manner of Musika: it plays new sound of any length, learned from your recordings alone.

    recordings -> codec -> latents -> generator against critic -> run -> new latents -> codec -> sound

inspect      the folder before training: is there enough, and is it equally loud
latents      a folder of recordings as latents, kept by content; the rows that are drawn from them
coordinates  where in the space of sounds each moment of a piece lies
networks     the generator, which makes a half window from coordinates; the critic, which hears two halves joined
step         one step of training: hinge losses, R1, the adaptive switch, the moving average of the weights
health       NaN, silence, beeps, sameness and a critic that has won are noticed
train        the loop around it: checkpoints, samples, rollbacks
run          a run on disk
generate     takes of any length, loops
evaluate     takes beside held-out recordings
copying      whether takes repeat what was learned

M. Pasini and J. Schlüter, "Musika! Fast Infinite Waveform Music Generation" (2022), https://arxiv.org/abs/2208.08706
"""
