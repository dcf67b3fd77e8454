"""A run learns: settings, the trainer, adapters, trackers."""
