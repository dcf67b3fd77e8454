"""Music to learn from: a folder looked through, the corpus made of it, tasks posed from it. numpy only."""
