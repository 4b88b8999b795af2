"""JSON and arrays from strangers: read within bounds, or refused without being unpacked."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from loihi_mmfree.untrusted import cut, parse_json, parse_npy, parse_npz, short, some_of

ARRAYS = st.sampled_from(["<i4", "<i8", "|u1", "<f8", "<U3"]).flatmap(
    lambda kind: arrays(kind, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), elements=None)
)


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@settings(deadline=None)
@given(array=ARRAYS, transposed=st.booleans())
def test_what_numpy_saves_is_read_back(array: np.ndarray, transposed: bool) -> None:
    found = parse_npy(saved(array.T if transposed else array))
    np.testing.assert_array_equal(found, array.T if transposed else array)
    assert found.dtype == array.dtype


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\xff\xff{",
        saved(np.arange(3, dtype="<i4"))[:-1],
        saved(np.array([object()])),
        saved(np.array(["a"])).replace(b"a\x00\x00\x00", b"a\x00\x00\x7f"),
        saved(np.zeros(2, dtype=[("a", "<i4")])),
        saved(np.arange(3, dtype="<i4")).replace(b"(3,)", b"(" * 50 + b")"),
        saved(np.arange(3, dtype="<i4")).replace(b"(3,)", b"(9,)"),
    ],
)
def test_what_is_no_array_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"array|header"):
        parse_npy(data)


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def test_a_file_that_unpacks_to_more_than_allowed_is_not_unpacked() -> None:
    data = zipped(a=saved(np.zeros(2**20, dtype="<i4")))
    assert len(data) < 2**16
    with pytest.raises(ValueError, match="unpacks to more than 1048576 bytes"):
        parse_npz(data, largest=2**20)
    assert parse_npz(data, largest=2**23)["a"].shape == (2**20,)


def test_a_file_that_says_less_than_it_unpacks_to_is_refused() -> None:
    content = saved(np.zeros(2**20, dtype="<i4"))
    data = zipped(a=content).replace(len(content).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    with pytest.raises(ValueError, match=r"npz|bytes of data"):
        parse_npz(data, largest=2**20)


@pytest.mark.parametrize(
    "text", [b'{"a": 1, "a": 2}', b"[NaN]", b"[-Infinity]", b"\xff", b"[" * 100_000, b"", b"{"]
)
def test_what_is_not_plain_json_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text)


def test_json_of_more_values_than_asked_for_is_refused_before_it_is_parsed() -> None:
    assert parse_json(b"[1, 2, [3]]", most_values=4) == [1, 2, [3]]
    with pytest.raises(ValueError, match="about 5 values; at most 4 are read"):
        parse_json(b"[[],[],", most_values=4)


def test_json_is_read() -> None:
    assert parse_json(b'{"a": [1, -2.5, null, true, "\xc3\xa9"]}') == {"a": [1, -2.5, None, True, "é"]}


def test_lists_and_values_are_cut_for_messages() -> None:
    assert some_of("abc") == "a, b, c"
    assert some_of(map(str, range(1000))) == "0, 1, 2, 3, 4 and 995 more"
    assert some_of(["x" * 1000]) == "x" * 100 + "…"
    assert short(10**5000) == "a number of 16610 bits"
    assert len(short("x" * 1000)) == 81
    assert cut("\n".join(map(str, range(100)))).splitlines()[-1] == "… and 90 lines more"
