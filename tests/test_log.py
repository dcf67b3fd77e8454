"""The picture of a training: what a log holds, and nothing that cannot be compared without saying so."""

import pytest
from matplotlib.figure import Figure

from woodshed.log import append_log, draw_loss


@pytest.mark.parametrize("alike", [True, False])
def test_the_picture_shows_what_was_measured_alike(tmp_path, monkeypatch, alike):
    """Losses of steps have other timesteps than validation, and dropout: beside it stands what validation measured."""
    drawn = {}

    def keep(figure, path, **more):
        drawn.update({line.get_label(): line for line in figure.axes[0].lines})
        path.touch()

    monkeypatch.setattr(Figure, "savefig", keep)
    for step in range(1, 5):
        append_log(tmp_path / "log.jsonl", {"step": step, "loss": 9.0})
    told = {"loss": 2.0} | ({"training_loss": 1.5} if alike else {})
    append_log(tmp_path / "log.jsonl", {"step": 4, "validation": told})
    draw_loss(tmp_path / "log.jsonl", tmp_path / "loss.png", measure="loss")
    assert list(drawn["validation"].get_ydata()) == [2.0]
    assert ("train, measured alike" in drawn) is alike
    if alike:
        assert list(drawn["train, measured alike"].get_ydata()) == [1.5]
