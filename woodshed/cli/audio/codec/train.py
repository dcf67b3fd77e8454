"""woodshed audio codec train"""

from pathlib import Path

from tyro.conf import Positional

from ....audio.codecs._settings import CodecSettings
from ....page import clock
from ...terminal import bar


def command(folder: Positional[Path], out: Path, settings: CodecSettings):
    """Learn a codec from a folder of recordings. Ctrl-C saves; --resume goes on.

    Args:
        folder: recordings: wav, flac, ogg, opus, mp3, of any length and loudness
        out: the codec, a new folder (or with --resume the one to go on with)
        settings: how to learn
    """
    from ....audio.codec_train import train_codec

    with bar("learning") as progress:

        def report(now):
            if now.message:
                progress.say(now.message)
            elif now.validation:
                told = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in now.validation.items())
                progress.say(f"step {now.step}: held-out error: {told}")
            else:
                progress(now.share, f"step {now.step}  error {now.loss:.4f}  {clock(now.seconds_left)} left")

        codec = train_codec(folder, out, settings, report=report)
    print(f"{out}: {codec.latent_dim} numbers {codec.latent_rate:.2f} times a second; to measure what is lost, run:")
    print(f"    woodshed audio codec check {out} FOLDER --out REPORT")
