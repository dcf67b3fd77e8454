"""Music as MIDI: from a folder of files to a model, and from a model to new music."""
