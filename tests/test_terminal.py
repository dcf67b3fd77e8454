"""What the commands show while they work."""

import pytest

from woodshed.cli.terminal import bar, console, refuse_json, write_json
from woodshed.errors import FileError
from woodshed.page import clock, text_table
from woodshed.progress import Progress


@pytest.mark.parametrize("text", ["../[/old]/model", "[takes]", "[bold]x[/bold]", "夜"])
def test_a_line_above_the_bar_is_printed_as_it_is(capsys, text):
    with bar("training") as report:
        report(Progress(0.5, text))
        report(Progress(message=text))
    assert capsys.readouterr().err == f"{text}\n"


def test_a_table_shows_its_cells_as_they_are(capsys):
    console().print(text_table(("model", "loss"), [("[bold]a[/bold]\x1b[31m", "1.5"), ("b", "-")]))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [["model", "loss"], ["[bold]a[/bold]\\x1b[31m", "1.5"], ["b", "-"]]


def test_seconds_as_minutes():
    told = [clock(seconds) for seconds in (0, 59.9, 61, 3661, float("nan"), float("inf"))]
    assert told == ["0:00", "0:59", "1:01", "1:01:01", "--:--", "--:--"]


def test_figures_leave_what_has_come_in_the_meantime(tmp_path):
    """It was not there when an hour of work began."""
    path = tmp_path / "figures.json"
    refuse_json(path)
    path.write_text("mine")
    with pytest.raises(FileError, match=r"figures\.json: something has taken"):
        write_json(path, {"loss": 1})
    assert path.read_text() == "mine"
