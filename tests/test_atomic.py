"""Files appear whole or not at all, whatever fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from volseg.atomic import (
    replacing,
    replacing_folder,
    require_writable,
    require_writable_folder,
    write_text,
)
from volseg.errors import OutputError


def only(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_success_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep" / "a.v2.nii.gz"
    for content in ("one", "two"):
        with replacing(target) as temporary:
            assert temporary.parent == target.parent
            assert temporary.name.endswith(".nii.gz")
            temporary.write_text(content)
        assert target.read_text() == content
    assert only(target.parent) == ["a.v2.nii.gz"]


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (OSError(28, os.strerror(28)), OutputError),
        (PermissionError(13, os.strerror(13)), OutputError),
        (ValueError("bug"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_failure_keeps_the_old_file(
    tmp_path: Path, failure: BaseException, raised: type[BaseException]
) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(raised) as caught, replacing(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise failure
    assert target.read_text() == "old"
    assert only(tmp_path) == ["a.json"]
    if raised is OutputError:
        assert str(target) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_text_is_utf_8_and_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.json"
    write_text(target, "Größe")
    with pytest.raises(UnicodeEncodeError):
        write_text(target, "half\ud800")
    assert target.read_bytes() == "Größe".encode()
    assert only(target.parent) == ["a.json"]


def test_what_cannot_be_written_is_known_before_there_is_anything(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    for target in (tmp_path / "file", tmp_path / "new" / "deep" / "a.json"):
        require_writable(target)
    for target in (tmp_path, tmp_path / "file" / "a.json"):
        with pytest.raises(OutputError, match="cannot write"):
            require_writable(target)
    for folder in (tmp_path, tmp_path / "new" / "deep"):
        require_writable_folder(folder)
    with pytest.raises(OutputError, match="cannot write .*file"):
        require_writable_folder(tmp_path / "file")
    assert only(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_folder_that_may_not_be_entered_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of another user; root may enter all of them."""
    closed, look = tmp_path / "closed", Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        if closed in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    for attempt in (
        lambda: require_writable(closed / "out" / "a.json"),
        lambda: require_writable_folder(closed / "out"),
        lambda: replacing(closed / "a.json").__enter__(),
        lambda: replacing_folder(closed / "a.zarr", marked_by="mark").__enter__(),
    ):
        with pytest.raises(OutputError, match=r"cannot write .*closed.*: Permission denied"):
            attempt()


def test_the_errors_of_a_long_block_are_its_own(tmp_path: Path) -> None:
    for target in (
        replacing(tmp_path / "a.bin", only_writing=False),
        replacing_folder(tmp_path / "a.zarr", marked_by="mark", only_writing=False),
    ):
        with pytest.raises(BrokenPipeError), target:
            raise BrokenPipeError
    with (
        pytest.raises(OutputError, match="file"),
        replacing(Path(os.devnull) / "file", only_writing=False),
    ):
        pass
    assert only(tmp_path) == []


def test_a_full_disk_is_noticed(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError), replacing(tmp_path / "a.bin") as temporary:
            temporary.write_bytes(bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert only(tmp_path) == []


def test_files_are_flushed_by_a_descriptor_that_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to flush any other: EBADF."""
    opened: dict[int, int] = {}
    flushed: list[int] = []
    system_open, system_fsync = os.open, os.fsync

    def watched_open(path: str, flags: int, *mode: int) -> int:
        descriptor = system_open(path, flags, *mode)
        opened[descriptor] = flags
        return descriptor

    def watched_fsync(descriptor: int) -> None:
        flushed.append(opened[descriptor] & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR))
        system_fsync(descriptor)

    monkeypatch.setattr(os, "open", watched_open)
    monkeypatch.setattr(os, "fsync", watched_fsync)
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    assert flushed == [os.O_RDWR]


def test_writing_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="gave no file"), replacing(tmp_path / "a.txt"):
        pass


def test_folders_devices_and_files_as_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for target in (tmp_path, Path(os.devnull), tmp_path / "file" / "a.txt"):
        with pytest.raises(OutputError), replacing(target) as temporary:
            temporary.write_text("x")
    assert only(tmp_path) == ["file"]
    assert not Path(os.devnull).is_file()


def test_links_are_followed_and_long_names_work(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    with replacing(tmp_path / "link.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "x"
    with replacing(tmp_path / ("n" * 248 + ".nii.gz")) as temporary:
        temporary.write_text("x")


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.zarr"
    target.mkdir(parents=True)  # an empty one may be there
    for content in ("one", "two"):
        with replacing_folder(target, marked_by="mark") as temporary:
            assert temporary.parent == target.parent
            (temporary / "deep").mkdir(parents=True)
            (temporary / "mark").write_text(content)
            (temporary / "deep" / content).write_text(content)
        assert only(target) == ["deep", "mark"]
        assert only(target / "deep") == [content]
    assert only(target.parent) == ["a.zarr"]


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(OSError(28, os.strerror(28)), OutputError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_failure_keeps_the_old_folder(
    tmp_path: Path, failure: BaseException, raised: type[BaseException]
) -> None:
    target = tmp_path / "a.zarr"
    target.mkdir()
    (target / "mark").write_text("old")
    with pytest.raises(raised), replacing_folder(target, marked_by="mark") as temporary:  # noqa: PT012
        temporary.mkdir()
        (temporary / "mark").write_text("half")
        raise failure
    assert (target / "mark").read_text() == "old"
    assert only(tmp_path) == ["a.zarr"]


@pytest.mark.parametrize("renamed", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit, PermissionError])
def test_a_failure_while_folders_change_places_loses_neither(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: type[BaseException],
    step: int,
    renamed: bool,
) -> None:
    target = tmp_path / "a.zarr"
    target.mkdir()
    (target / "mark").write_text("old")
    steps = 0
    system_rename = Path.rename

    def interrupted(source: Path, place: Path) -> Path:
        nonlocal steps
        steps += 1
        if steps == step and not renamed:
            raise failure
        moved = system_rename(source, place)
        if steps == step:
            raise failure
        return moved

    monkeypatch.setattr(Path, "rename", interrupted)
    with (  # noqa: PT012
        pytest.raises((failure, OutputError)),
        replacing_folder(target, marked_by="mark") as temporary,
    ):
        temporary.mkdir()
        (temporary / "mark").write_text("new")
    assert (target / "mark").read_text() == ("new" if (step, renamed) == (2, True) else "old")
    assert only(tmp_path) == ["a.zarr"]


def test_a_folder_that_another_process_has_made_by_then_may_stay(tmp_path: Path) -> None:
    target = tmp_path / "a.zarr"
    for unless_there, left in ((True, "theirs"), (False, "ours")):
        with replacing_folder(target, marked_by="mark", unless_there=unless_there) as temporary:
            for folder, text in ((temporary, "ours"), (target, "theirs")):
                folder.mkdir(exist_ok=True)
                (folder / "mark").write_text(text)
        assert (target / "mark").read_text() == left
        assert only(tmp_path) == ["a.zarr"]


def test_only_folders_of_the_same_kind_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder" / "theirs").mkdir(parents=True)
    for name in ("file", "folder"):
        with (
            pytest.raises(OutputError, match="something else is there"),
            replacing_folder(tmp_path / name, marked_by="mark"),
        ):
            pass
    with (
        pytest.raises(OutputError, match="gave no mark"),
        replacing_folder(tmp_path / "new", marked_by="mark") as temporary,
    ):
        temporary.mkdir()
    assert only(tmp_path) == ["file", "folder"]
