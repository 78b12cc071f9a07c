"""Units as people write them: what each notation means, and that no other text is taken."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plancast.predictor import units

DAY = 86_400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("2h", 7200),
        ("00:30:00", 1800),
        ("1-02:00:00", 93_600),
        ("21m 20s", 1280),
        ("1h2m10s", 3730),
        ("350ms", 0.35),
        ("1d 2h", 93_600),
        ("1.5 days", 1.5 * DAY),
        ("90 min", 5400),
        ("10:30", 630),
        ("1-2", 93_600),
        ("1-2:30", 95_400),
        ("1 day, 2:03:04", 93_784),
        ("0 days 00:12:05", 725),
        ("0:00:01.500", 1.5),
        ("PT1H30M", 5400),
        ("P1DT1S", DAY + 1),
        ("-6000", -6000),
        ("-5m", -300),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """A limit would be read as another, or a whole log refused for its notation."""
    assert units.duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "soon", "1h 1h", "5m 1h", "1:2:3:4", "1-", "2x", "1M", "inf", "nan", "1e999", "PT"]
)
def test_other_texts_are_no_durations(text: str) -> None:
    """A damaged cell would become a run time."""
    with pytest.raises(ValueError, match=re.escape(repr(text.strip()))):
        units.duration_s(text)


@given(st.integers(0, 10**8))
def test_every_notation_of_a_duration_is_the_same(total: int) -> None:
    """The same limit would differ between a task file and a log."""
    days, rest = divmod(total, DAY)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    texts = [
        f"{days}-{hours:02}:{minutes:02}:{seconds:02}",
        f"{days * 24 + hours}:{minutes:02}:{seconds:02}",
        f"{days}d {hours}h {minutes}m {seconds}s",
        f"{days}d{hours}h{minutes}m{seconds}s",
        f"{total}s",
        f"{total * 1000} ms",
        f"P{days}DT{hours}H{minutes}M{seconds}S",
        str(total),
    ]
    for text in texts:
        assert units.duration_s(text) == pytest.approx(total, abs=1e-6), text


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("1024", 1024),
        ("64G", 65_536),
        ("4Gi", 4096),
        ("4GiB", 4096),
        ("512 MB", 512),
        ("8 GB", 8192),
        ("4096kb", 4),
        ("1.5T", 1.5 * 2**20),
        ("1048576 bytes", 1),
        ("2gb", 2048),
    ],
)
def test_sizes(text: str, mib: float) -> None:
    """Memory would be wrong by a unit."""
    assert units.size_mib(text) == pytest.approx(mib)


@pytest.mark.parametrize(
    ("text", "number"), [("2", 2), ("500m", 0.5), ("16000m", 16), ("350.0%", 3.5), ("4 cores", 4)]
)
def test_counts(text: str, number: float) -> None:
    """Millicores would be taken for cores."""
    assert units.count(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "4Q", "G", "1 G G", "nan"])
def test_other_texts_are_no_sizes_and_no_counts(text: str) -> None:
    """A damaged cell would become a demand."""
    for read in (units.size_mib, units.count):
        with pytest.raises(ValueError, match="is not"):
            read(text)
    with pytest.raises(ValueError, match="is not"):
        units.count("2M")


def test_moments() -> None:
    """A deadline would be hours off."""
    noon = 1_714_564_800
    for text in (
        "2024-05-01T12:00:00Z",
        "2024-05-01 14:00+02:00",
        "2024-05-01t12:00:00",
        str(noon),
    ):
        assert units.moment_s(text) == noon
    assert units.moment_s("2024-05-01") == noon - DAY / 2
    for text in ("noon", "12:00", "2024-13-01", "inf"):
        with pytest.raises(ValueError, match="is not a time"):
            units.moment_s(text)


@given(st.text(max_size=12))
def test_any_text_is_a_finite_number_or_refused(text: str) -> None:
    """A library's own error, or a NaN, would come through."""
    for read in (units.duration_s, units.size_mib, units.count, units.moment_s):
        try:
            value = read(text)
        except ValueError:
            continue
        assert math.isfinite(value)


@given(st.text(st.characters(categories=["Nd", "No"]), max_size=25) | st.integers(0).map(str))
def test_a_whole_number_is_one_that_int_reads(text: str) -> None:
    """A superscript, or five thousand digits, would end in a traceback."""
    if units.is_whole(text):
        assert str(int(text)).zfill(len(text)) == text
    assert units.is_whole("0")
    assert units.is_whole("017")
    assert not any(map(units.is_whole, ("\u00b2", "9" * 5_000, "", "-1", "1 ")))
