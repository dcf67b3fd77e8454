"""Music as MIDI: from a folder of files to a model, and from a model to new music."""

import logging

# transformers loads bitsandbytes where it is installed, and that warns of kernels nobody asked for
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
