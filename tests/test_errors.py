"""What other libraries say, in one line."""

from woodshed.errors import first_line


def test_an_error_is_told_in_its_first_line_or_by_its_name():
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError" and first_line(KeyError("")) == "''"
    assert first_line(OSError("")) == "OSError"
