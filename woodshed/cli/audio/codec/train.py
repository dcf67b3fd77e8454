"""woodshed audio codec train"""

from pathlib import Path

from ....audio.codecs._settings import CodecSettings
from ....files import quoted
from ...terminal import FolderPath, bar


def command(folder: FolderPath, out: Path, settings: CodecSettings):
    """Learn a codec from a folder of recordings. Ctrl-C saves; --resume goes on.

    Args:
        folder: recordings: wav, flac, ogg, opus, mp3, of any length and loudness
        out: the codec, a new folder (or with --resume the one to go on with)
        settings: how to learn
    """
    from ....audio.codec_train import train_codec

    with bar("learning") as report:
        codec = train_codec(folder, out, settings, report=report)
    print(f"{out}: {codec.latent_dim} numbers {codec.latent_rate:.2f} times a second; to measure what is lost, run:")
    print(f"    woodshed audio codec check {quoted(out)} FOLDER --out REPORT")
