"""Files are written whole or not at all, read as what they should be, and folders are nobody else's."""

import errno
import hashlib
import math
import os
from fractions import Fraction

import pytest

from woodshed.errors import FileError, InputError, RunError
from woodshed.files import (
    built,
    local,
    new_folder,
    numbered_folder,
    object_in,
    object_of,
    quoted,
    read_object,
    replacing,
    seen_from,
    sha256_of,
    strict_json,
    write_file,
    write_object,
)
from woodshed.jobs import claimed


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    write_file(tmp_path / "a", "old")
    with pytest.raises(FileError, match="a: cannot be written: No space left"), replacing(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name != "posix", reason="Windows has other modes, and links only for some")
def test_a_save_keeps_links_and_modes(tmp_path):
    (tmp_path / "real").mkdir()
    real, link, dangling = tmp_path / "real" / "labels.json", tmp_path / "link.json", tmp_path / "dangling.json"
    write_file(real, "old")
    real.chmod(0o600)
    link.symlink_to(real)
    dangling.symlink_to("real/new.json")
    for path in (link, dangling):
        write_file(path, "new")
        assert path.is_symlink() and path.read_text() == "new"
    assert real.read_text() == "new" and real.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in real.parent.iterdir()} == {"labels.json", "new.json"}


def refuses(*given):
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_what_is_new_replaces_nothing_and_is_not_lost(tmp_path, monkeypatch, links):
    if not links:  # memory cards
        monkeypatch.setattr(os, "link", refuses)
    write_file(tmp_path / "a.json", "first", new=True)
    with pytest.raises(FileError, match=r"a\.json: something has taken this name meanwhile, .* is in a-\w+\.json"):
        write_file(tmp_path / "a.json", "second", new=True)
    other = next(tmp_path.glob("a-*.json"))
    assert (tmp_path / "a.json").read_text() == "first" and other.read_text() == "second"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_new_file_that_cannot_be_renamed_leaves_no_empty_one(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", refuses)
    write_file(tmp_path / "linked", "text", new=True)
    monkeypatch.setattr(os, "link", refuses)
    with pytest.raises(FileError, match="a: cannot be written: Operation not permitted"):
        write_file(tmp_path / "a", "text", new=True)
    assert [path.name for path in tmp_path.iterdir()] == ["linked"] and (tmp_path / "linked").read_text() == "text"


def test_what_is_renamed_is_on_the_disk(tmp_path, monkeypatch):
    """A power cut between the two would leave an empty file."""
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    write_file(tmp_path / "a", "text")
    assert calls == ["fsync", "replace"]


def test_bytes_of_a_name_that_are_no_text_survive_as_json(tmp_path):
    told = {"path": os.fsdecode(b"caf\xe9 \xff"), "title": "夜"}
    write_object(tmp_path / "a.json", told)
    assert read_object(tmp_path / "a.json") == told


def test_a_place_is_seen_from_a_folder_by_the_name_that_it_has(tmp_path):
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (link := tmp_path / "link").symlink_to(tmp_path / "disk" / "deep")
    place = seen_from(link, tmp_path / "ace")
    assert place == "../ace" and local(link, place) == tmp_path / "ace"
    assert local(link, str(tmp_path / "far")) == tmp_path / "far"
    assert local(link, "owner/name") is local(link, "piano") is None


def test_the_digest_of_files_is_that_of_their_bytes_in_a_row(tmp_path):
    (tmp_path / "long").write_bytes(b"x" * 10**6)
    (tmp_path / "short").write_bytes(b"y")
    found = sha256_of(tmp_path / "long", tmp_path / "short", begin=b"z")
    assert found == hashlib.sha256(b"z" + b"x" * 10**6 + b"y").hexdigest()


@pytest.mark.parametrize("data", [b"", b"[1]", b"7", b'"text"', b"{", b"\xff\xfe", b'{"a":' * 10**5, b"[" * 10**5])
def test_what_is_no_json_object_is_a_value_error(tmp_path, data):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"."):
        read_object(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"."):
        object_of(data)
    assert object_in(tmp_path / "a.json") == object_in(tmp_path / "none.json") == {}


def test_a_new_folder_stays_only_with_something_in_it(tmp_path):
    with new_folder(tmp_path / "a" / "b"):
        pass
    assert not any(tmp_path.iterdir())
    with new_folder(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "mine").touch()
    assert (tmp_path / "a" / "b" / "mine").exists()
    with pytest.raises(FileError, match="mine: a file, not a folder"), new_folder(tmp_path / "a" / "b" / "mine"):
        pass


def test_a_folder_is_built_beside_its_place_and_touches_nothing_there(tmp_path):
    theirs = [tmp_path / name for name in (f".a.{os.getpid()}", ".a.0123456789ab.tmp", ".b.0123456789ab.tmp")]
    for folder in (*theirs, left := tmp_path / ".a.ba9876543210.tmp"):
        folder.mkdir()
        (folder / "mine").touch()
    os.utime(left, (0, 0))  # of a kill, long ago
    with pytest.raises(OSError, match="full"), built(tmp_path / "a") as folder:
        (folder / "half").touch()
        raise OSError("full")
    assert set(tmp_path.iterdir()) == {*theirs}
    with built(tmp_path / "a") as folder:
        (folder / "whole").touch()
    assert (tmp_path / "a" / "whole").exists() and set(tmp_path.iterdir()) == {*theirs, tmp_path / "a"}
    assert all((folder / "mine").exists() for folder in theirs)


def test_the_next_free_number_is_above_all_there_are(tmp_path):
    (tmp_path / "007").mkdir()
    (tmp_path / "notes").touch()
    (tmp_path / "²").mkdir()
    with numbered_folder(tmp_path) as one, numbered_folder(tmp_path) as two:
        (two / "take").touch()
    assert (one.name, two.name) == ("008", "009")
    assert not one.exists() and two.exists()


def test_of_a_numbered_folder_that_fails_only_what_was_written_stays(tmp_path):
    for number, written in (("001", True), ("002", False)):
        with pytest.raises(InputError), numbered_folder(tmp_path / "takes") as folder:
            if written:
                (folder / "take").touch()
            raise InputError("no more")
        assert folder.name == number and folder.exists() == written
    (tmp_path / "003").touch()
    with pytest.raises(FileError, match="003: a file"), numbered_folder(tmp_path / "003"):
        pass


def test_a_folder_has_one_owner_where_folders_can_be_locked(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    with claimed(tmp_path), pytest.raises(RunError, match="another training"), claimed(tmp_path):
        pass

    def nfs(handle, operation):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", nfs)
    with claimed(tmp_path):
        pass


def test_disks_that_know_no_modes_and_cannot_tell_take_files(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def unable(handle):
        raise OSError(errno.EINVAL, "Invalid argument")

    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr("woodshed.files.shutil.copymode", refused)
    monkeypatch.setattr("woodshed.files.os.fsync", unable)
    write_file(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize(
    ("platform", "told"),
    [("linux", ["a.mid", "'my songs'", r"'C:\my songs'"]), ("win32", ["a.mid", '"my songs"', r'"C:\my songs"'])],
)
def test_paths_in_commands_are_told_as_they_are_typed(monkeypatch, platform, told):
    monkeypatch.setattr("sys.platform", platform)
    assert [quoted(name) for name in ("a.mid", "my songs", r"C:\my songs")] == told


def test_figures_are_json_that_any_program_reads(tmp_path):
    figures = {"found": Fraction(1, 3), "none": math.nan, "most": [math.inf, 0.1], "name": "\udcff é"}
    write_file(tmp_path / "a.json", strict_json(figures))
    assert read_object(tmp_path / "a.json") == {"found": "1/3", "none": None, "most": [None, 0.1], "name": "\udcff é"}
