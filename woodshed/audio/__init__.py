"""Music as sound: from a folder of recordings to a model, and from a model to new recordings."""
