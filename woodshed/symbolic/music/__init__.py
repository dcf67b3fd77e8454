"""Music itself: scores, MIDI files, bars, parts, chords; how it looks and sounds. numpy only."""
