"""Whether there is a Grafana, and the marks on its boards, as bytes."""

import struct
import time
from collections.abc import Iterator

import pytest

from ladder import boards, images, marks, settings
from ladder.settings import ROOT, Settings
from ladder.stages import STAGES, stage_of

DEFAULTS = settings.read(settings.DEFAULTS)


def given(profile: str = "stage2", **values: str) -> Settings:
    return settings.check(DEFAULTS | values, profile)


@pytest.mark.parametrize(
    ("here", "pulled", "left_out"), [(True, False, ()), (False, True, ()), (False, False, ("grafana",))]
)
@pytest.mark.parametrize("before", ["", "without-"])
def test_grafana_is_there_if_its_image_is_here_or_can_be_pulled(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    here: bool,
    pulled: bool,
    left_out: tuple[str, ...],
    before: str,
) -> None:
    monkeypatch.setattr(images, "is_here", lambda image: here)
    monkeypatch.setattr(images, "pull", lambda image: pulled)
    monkeypatch.setattr(boards, "write", lambda: None)
    found = boards.settle(given(GRAFANA_LEFT_OUT=before), STAGES[-1])
    assert found.left_out == left_out
    assert ("Grafana is left out" in capsys.readouterr().out) == bool(left_out)
    stage = STAGES[-1].without(*found.left_out)
    assert set(STAGES[-1].nodes) - set(stage.nodes) == set(left_out)


def test_a_stage_without_monitoring_needs_no_grafana(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "pull", lambda image: pytest.fail("nobody wants it"))
    assert boards.settle(given(), stage_of("1")) == given()


def test_its_image_is_none_that_a_stage_can_not_do_without() -> None:
    assert images.grafana_image() not in images.base_images([ROOT / "grafana/Dockerfile"])
    assert images.grafana_image().endswith("-ubuntu"), "with another C library it does not start on Debian"


def number(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = shift = 0
    while data[at] > 127:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
    return value | data[at] << shift, at + 1


def fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The fields of a protobuf message: (number, content)."""
    at = 0
    while at < len(message):
        key, at = number(message, at)
        if key & 7 == 0:
            value, at = number(message, at)
            yield key >> 3, value
            continue
        size, at = (8, at) if key & 7 == 1 else number(message, at)
        yield key >> 3, message[at : at + size]
        at += size


def unpacked(data: bytes) -> bytes:
    """What snappy packed, if it is all of pieces of up to 60 bytes that stand for themselves."""
    size, at = number(data, 0)
    content = b""
    while at < len(data):
        assert data[at] & 3 == 0
        piece = (data[at] >> 2) + 1
        content += data[at + 1 : at + 1 + piece]
        at += 1 + piece
    assert len(content) == size
    return content


@pytest.mark.parametrize("mark", ["kill web1", "partition replica", "x" * 300, "Ü"])
def test_a_mark_is_a_series_with_one_value(mark: str) -> None:
    when = 1_795_280_400.25
    ((_, series),) = fields(unpacked(marks.packed(marks.message({mark: when}))))
    assert isinstance(series, bytes)
    *labels, (_, sample) = fields(series)
    assert isinstance(sample, bytes)
    told = [tuple(text for _, text in fields(label)) for _, label in labels if isinstance(label, bytes)]
    assert told == [(b"__name__", marks.FAMILY.encode()), (b"mark", mark.encode())]
    assert dict(fields(sample)) == {1: struct.pack("<d", when), 2: 1_795_280_400_250}


def test_without_a_collector_there_is_no_mark_and_no_harm() -> None:
    begun = time.monotonic()
    marks.put(given(PROMETHEUS_PORT="1"), "kill web1", time.time())
    marks.put(given("stage1"), "kill web1", time.time())
    assert time.monotonic() - begun < 2 * marks.PATIENCE
