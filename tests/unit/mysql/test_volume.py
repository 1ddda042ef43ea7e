"""The data folders: whatever moment a step was interrupted at, only complete data is used."""

from __future__ import annotations

from pathlib import Path

import pytest
from node.server import Volume


def folder(path: Path, content: str) -> None:
    path.mkdir()
    (path / "content").write_text(content)


def content(volume: Volume) -> str:
    return (volume.data / "content").read_text()


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path)


def test_an_interrupted_initialisation_is_started_over(volume: Volume) -> None:
    folder(volume.init, "half")
    assert not volume.tidy()
    assert not volume.init.exists()


def test_a_finished_initialisation_is_used(volume: Volume) -> None:
    folder(volume.init, "new")
    volume.finish_init()
    assert volume.tidy()
    assert content(volume) == "new"
    assert volume.order is None


def test_an_interrupted_copy_is_never_used(volume: Volume) -> None:
    folder(volume.data, "old")
    folder(volume.clone, "half")
    assert volume.tidy()
    assert content(volume) == "old"
    assert not volume.clone.exists()


@pytest.mark.parametrize("source", ["db1", ""])
def test_a_finished_copy_is_used_with_its_order(volume: Volume, source: str) -> None:
    folder(volume.data, "old")
    folder(volume.clone, "copy")
    volume.finish_clone(source)
    assert volume.tidy()
    assert content(volume) == "copy"
    assert volume.order == source
    volume.order_done()
    assert volume.order is None
    assert [path.name for path in volume.data.parent.iterdir()] == ["data"]


def test_interrupted_between_the_two_renames(volume: Volume) -> None:
    folder(volume.old, "old")
    folder(volume.clone, "copy")
    volume.finish_clone("db1")
    assert volume.tidy()
    assert content(volume) == "copy"
    assert not volume.old.exists()


def test_interrupted_before_the_old_data_is_gone(volume: Volume) -> None:
    folder(volume.old, "old")
    folder(volume.data, "copy")
    assert volume.tidy()
    assert content(volume) == "copy"
    assert not volume.old.exists()
