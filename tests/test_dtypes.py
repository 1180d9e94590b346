"""Data types and fill values: every spelling, both ways."""

import datetime
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarrcy import dtypes
from zarrcy.dtypes import DataType, from_json, from_numpy
from zarrcy.errors import MetadataError, UnknownExtensionError

settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")

NUMBERS = ["bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
NUMBERS += ["float16", "float32", "float64", "complex64", "complex128"]
DTYPES = [*NUMBERS, "M8[ns]", "M8[10s]", "M8", "m8[D]", "m8[25us]", "S5", "U7", "V4"]
WORDS = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "float16": 2, "complex64": 4, "complex128": 8, "float64": 8}
WORDS |= {"M8[ns]": 8, "m8[D]": 8, "S5": 1, "U7": 4, "V4": 1}


def bits(data_type: DataType, item: object) -> bytes:
    return np.asarray(item, data_type.dtype).tobytes()


def named(name: str, **configuration: object) -> dict[str, object]:
    return {"name": name, "configuration": configuration}


@pytest.mark.parametrize("dtype", DTYPES)
def test_json_describes_the_data_type_it_came_from(dtype):
    data_type = from_numpy(dtype)
    assert data_type.dtype == np.dtype(dtype)
    assert data_type.itemsize == np.dtype(dtype).itemsize
    again = from_json(data_type.to_json(), "data_type")
    assert again == data_type
    assert hash(again) == hash(data_type)
    assert pickle.loads(pickle.dumps(data_type)) == data_type


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_described_by_its_name_alone(name):
    assert from_numpy(name).to_json() == name
    assert from_json(name, "data_type").dtype == np.dtype(name)
    assert from_json({"name": name}, "data_type") == from_json({"name": name, "configuration": {}}, "data_type")


@pytest.mark.parametrize("dtype, word", WORDS.items())
def test_a_word_is_what_swaps_together(dtype, word):
    data_type = from_numpy(dtype)
    assert data_type.word == word
    items = np.frombuffer(bytes(range(1, 1 + data_type.itemsize)), data_type.dtype)
    if word > 1:
        reversed_words = items.view(f"V{word}").tolist()
        assert items.byteswap().tobytes() == b"".join(part[::-1] for part in reversed_words)


@pytest.mark.parametrize("dtype", [">i4", ">f8", ">c16", ">M8[ns]", ">U7", np.dtype("f4", metadata={"note": 1})])
def test_the_dtype_is_native_and_plain(dtype):
    found = from_numpy(dtype).dtype
    assert found.isnative
    assert found.metadata is None


def test_python_types_and_other_c_names_mean_the_same_data_types():
    assert from_numpy(int) == from_numpy("int64")
    assert from_numpy(float) == from_numpy("float64")
    assert from_numpy(bool) == from_numpy("?")
    assert from_numpy(np.longlong) == from_numpy("q") == from_numpy("l") == from_numpy("int64")
    assert from_numpy(from_numpy("f4")) == from_numpy("f4")


@pytest.mark.parametrize(
    "data, dtype",
    [
        ("r8", "V1"),
        ("r32", "V4"),
        (named("raw_bytes", length_bytes=3), "V3"),
        (named("null_terminated_bytes", length_bytes=3), "S3"),
        (named("fixed_length_utf32", length_bytes=12), "U3"),
        (named("numpy.datetime64", unit="μs", scale_factor=2), "M8[2us]"),
        (named("numpy.timedelta64", unit="generic", scale_factor=1), "m8"),
        ("complex_float32", "complex64"),
        ("complex_float64", "complex128"),
    ],
)
def test_a_spelling_is_kept(data, dtype):
    data_type = from_json(data, "data_type")
    assert data_type.dtype == np.dtype(dtype)
    assert data_type.to_json() == data


@pytest.mark.parametrize(
    "name", ["string", "bfloat16", "int4", "variable_length_bytes", "Float32", "", "raw", "r08", "r-8"]
)
def test_an_unknown_data_type_is_named(name):
    with pytest.raises(UnknownExtensionError) as info:
        from_json(name, "data_type")
    assert str(info.value).startswith(f'data_type: data type "{name}": expected one of bool, ')
    with pytest.raises(UnknownExtensionError):
        from_json(named(name, length_bytes=1), "data_type")


def test_a_structured_data_type_is_unknown_and_named():
    with pytest.raises(UnknownExtensionError, match='"struct"'):
        from_json(named("struct", fields=[{"name": "x", "data_type": "int32"}]), "data_type")


@pytest.mark.parametrize(
    "data, message",
    [
        (3, "data_type: expected an object with a name, got 3"),
        (None, "data_type: expected an object with a name, got null"),
        (["float32"], 'data_type: expected an object with a name, got ["float32"]'),
        ({}, "data_type.name: expected text, got nothing"),
        ({"name": 4}, "data_type.name: expected text, got 4"),
        ({"name": "int8", "unit": 1}, 'data_type: expected name and configuration, got "unit"'),
        ({"name": "int8", "must_understand": 1}, "data_type.must_understand: expected true or false, got 1"),
        ({"name": "int8", "configuration": []}, "data_type.configuration: expected an object, got []"),
        (named("int8", endian="big"), 'data_type.configuration: expected nothing for int8, got "endian"'),
        ("r12", f'data_type: expected a multiple of 8 bits, at most {8 * dtypes.MAX_ITEMSIZE}, got "r12"'),
        ("r999999999999999999", "data_type: expected a multiple of 8 bits"),
        (named("raw_bytes"), "data_type.configuration: expected length_bytes, got []"),
        (named("raw_bytes", length_bytes=0), "data_type.configuration.length_bytes: expected a whole number from 1 to"),
        (
            named("raw_bytes", length_bytes=2**31),
            "data_type.configuration.length_bytes: expected a whole number from 1 to",
        ),
        (named("raw_bytes", length_bytes=True), "data_type.configuration.length_bytes: expected a whole number"),
        (named("raw_bytes", length_bytes=4.0), "data_type.configuration.length_bytes: expected a whole number"),
        (
            named("fixed_length_utf32", length_bytes=6),
            "data_type.configuration.length_bytes: expected a multiple of 4, got 6",
        ),
        (named("numpy.datetime64", unit="ns"), 'expected unit and scale_factor, got ["unit"]'),
        (
            named("numpy.datetime64", unit="ns", scale_factor=0),
            "scale_factor: expected a whole number from 1 to 2147483647",
        ),
        (named("numpy.datetime64", unit="ns", scale_factor=2**31), "scale_factor: expected a whole number from 1 to"),
        (
            named("numpy.datetime64", unit="B", scale_factor=1),
            "unit: expected one of Y, M, W, D, h, m, s, ms, us, μs, ns",
        ),
        (named("numpy.datetime64", unit=["ns"], scale_factor=1), "unit: expected one of"),
        (named("numpy.datetime64", unit="generic", scale_factor=2), "expected 1 for the unit generic, got 2"),
    ],
)
def test_a_wrong_data_type_is_refused_with_its_path(data, message):
    with pytest.raises(MetadataError) as info:
        from_json(data, "data_type")
    assert message in str(info.value)


@pytest.mark.parametrize(
    "dtype", ["i4,f8", [("x", "i4")], "O", "S", "U", "V", "S0", np.longdouble, np.clongdouble, "3f4"]
)
def test_a_numpy_dtype_without_a_zarr_data_type_is_named(dtype):
    with pytest.raises(UnknownExtensionError, match="dtype: "):
        from_numpy(dtype)


@pytest.mark.parametrize("dtype", ["no such", "i3", object(), 7, "M8[furlong]", "U99999999999999999999"])
def test_what_numpy_does_not_know_is_an_error_of_zarrcy(dtype):
    with pytest.raises(UnknownExtensionError, match="dtype: expected one that NumPy knows"):
        from_numpy(dtype)


def test_a_data_type_does_not_change():
    data_type = from_numpy("f4")
    with pytest.raises(AttributeError):
        data_type.name = "f8"
    with pytest.raises(AttributeError):
        del data_type.dtype
    configuration = from_numpy("S4").to_json()["configuration"]
    configuration["length_bytes"] = 8
    assert from_numpy("S4").to_json() == named("null_terminated_bytes", length_bytes=4)


FLOATS = [
    ("float16", "NaN", "007e"),
    ("float32", "NaN", "0000c07f"),
    ("float64", "NaN", "000000000000f87f"),
    ("float32", "Infinity", "0000807f"),
    ("float32", "-Infinity", "000080ff"),
    ("float32", "0x7fc00001", "0100c07f"),
    ("float32", "0x7f800001", "0100807f"),
    ("float32", "0xFFC00000", "0000c0ff"),
    ("float32", "0x3f800000", "0000803f"),
    ("float16", "0xfe01", "01fe"),
    ("float64", "0x7ff0000000000001", "010000000000f07f"),
    ("float32", 0.1, "cdcccc3d"),
    ("float32", -0.0, "00000080"),
    ("float32", 16777217, "0000804b"),
    ("float64", 10**300, np.float64(1e300).tobytes().hex()),
    ("float64", 5e-324, "0100000000000000"),
    ("float32", 1e-60, "00000000"),
    ("complex64", [1, "NaN"], "0000803f0000c07f"),
    ("complex64", ["0xffc00001", "-Infinity"], "0100c0ff000080ff"),
    ("complex128", [-0.0, 2], "00000000000000800000000000000040"),
]
OTHERS = [
    ("bool", True, "01"),
    ("bool", False, "00"),
    ("uint8", 255, "ff"),
    ("int8", -128, "80"),
    ("int32", 3.0, "03000000"),
    ("uint64", 2**64 - 1, "ff" * 8),
    ("int64", -(2**63), "00" * 7 + "80"),
    ("M8[ns]", "NaT", "00" * 7 + "80"),
    ("M8[ns]", -(2**63), "00" * 7 + "80"),
    ("M8[10s]", 5, "05" + "00" * 7),
    ("m8[D]", -1, "ff" * 8),
    ("S3", "YQBi", "610062"),
    ("S3", "YQ==", "610000"),
    ("S3", "", "000000"),
    ("S3", [97, 98], "616200"),
    ("U2", "é", "e900000000000000"),
    ("U1", "\U0001f600", "00f60100"),
    ("V3", "AQIA", "010200"),
    ("V3", [1, 2, 0], "010200"),
]


@pytest.mark.parametrize("dtype, value, expected", FLOATS + OTHERS)
def test_a_fill_value_has_the_bits_that_its_spelling_means(dtype, value, expected):
    data_type = from_numpy(dtype)
    item = data_type.fill_value_from_json(value, "fill_value")
    assert isinstance(item, np.generic)
    assert bits(data_type, item).hex() == expected
    again = data_type.fill_value_from_json(data_type.fill_value_to_json(item), "fill_value")
    assert bits(data_type, again).hex() == expected


@pytest.mark.parametrize(
    "dtype, value, expected",
    [
        ("float32", "0x7fc00000", "NaN"),
        ("float32", "0x7fc00001", "0x7fc00001"),
        ("float32", "0xffc00000", "0xffc00000"),
        ("float64", "0x7ff0000000000000", "Infinity"),
        ("complex64", ["0x7f800001", 1], ["0x7f800001", 1.0]),
        ("M8[s]", -(2**63), "NaT"),
        ("M8[s]", 7, 7),
        ("S3", [97], "YQ=="),
        ("bool", True, True),
        ("uint8", 7, 7),
    ],
)
def test_a_fill_value_is_written_in_its_shortest_spelling(dtype, value, expected):
    data_type = from_numpy(dtype)
    written = data_type.fill_value_to_json(data_type.fill_value_from_json(value, "fill_value"))
    assert written == expected
    assert type(written) is type(expected)


@pytest.mark.parametrize(
    "dtype, value",
    [
        *[("bool", value) for value in (0, 1, "true", None, [True])],
        *[("uint8", value) for value in (300, -1, 1.5, True, "1", None, [1], {}, float("nan"), float("inf"), 10**4000)],
        *[("int64", value) for value in (2**63, -(2**63) - 1, 1e300, "0x00")],
        *[("float32", value) for value in (1e39, -1e39, 10**400, True, None, [], "nan", "inf", "+Infinity", "1.0", "")],
        *[
            ("float32", value)
            for value in ("0x7fc0000", "0x7fc000001", "7fc00001", "0xzzzzzzzz", "0x7FC0000١", "0x+1234567")
        ],
        *[("float16", value) for value in (65520, 1e5, "0x7fc00001")],
        *[("complex64", value) for value in (1, "NaN", [1], [1, 2, 3], [1, None], ["a", 1], [True, 1], [1e39, 0], {})],
        *[("M8[ns]", value) for value in ("nat", "2020-01-01", 1.0, True, None, 2**63, -(2**63) - 1)],
        *[
            ("S3", value)
            for value in ("YWJjZA==", "YQ=", "!!!!", "é", None, 5, [256], [-1], ["a"], [1, 2, 3, 4], "YQ==\n")
        ],
        *[("U2", value) for value in ("abc", None, 5, ["a"], b"a")],
        *[("V3", value) for value in ("AQI=", "AQIDBA==", "", [1, 2], [1, 2, 3, 4], None, 0)],
    ],
)
def test_a_wrong_fill_value_is_refused_with_its_path(dtype, value):
    with pytest.raises(MetadataError) as info:
        from_numpy(dtype).fill_value_from_json(value, "fill_value")
    assert str(info.value).startswith("fill_value")
    assert len(str(info.value)) < 300


def test_the_range_and_the_part_of_a_fill_value_are_named():
    with pytest.raises(MetadataError, match=r"^fill_value: expected a whole number from 0 to 255 for uint8, got 300$"):
        from_numpy("u1").fill_value_from_json(300, "fill_value")
    with pytest.raises(MetadataError, match=r'^fill_value\[1\]: expected a number, "NaN"'):
        from_numpy("c8").fill_value_from_json([1, "x"], "fill_value")


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != "bool"])
def test_every_item_survives_json(dtype):
    data_type = from_numpy(dtype)

    @given(st.binary(min_size=data_type.itemsize, max_size=data_type.itemsize))
    @settings(max_examples=60)
    def survives(raw):
        if data_type.dtype.kind == "U":
            points = np.frombuffer(raw, "u4") % 0x110000
            raw = points.tobytes()
        item = np.frombuffer(raw, data_type.dtype)[0]
        again = data_type.fill_value_from_json(data_type.fill_value_to_json(item), "fill_value")
        assert bits(data_type, again) == raw

    survives()


@given(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from(["float16", "float32", "float64"]))
def test_a_number_is_rounded_to_the_nearest_or_refused(number, name):
    data_type = from_numpy(name)
    with np.errstate(over="ignore"):
        expected = np.dtype(name).type(number)
    if np.isinf(expected) and not np.isinf(number):
        with pytest.raises(MetadataError):
            data_type.fill_value_from_json(number, "fill_value")
    else:
        assert bits(data_type, data_type.fill_value_from_json(number, "fill_value")) == expected.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_is_all_zero_bytes(dtype):
    data_type = from_numpy(dtype)
    assert bits(data_type, data_type.zero()) == bytes(data_type.itemsize)
    assert bits(data_type, data_type.scalar(0)) == bytes(data_type.itemsize)


@pytest.mark.parametrize(
    "dtype, value, expected",
    [
        ("float32", np.float64(0.1), np.float32(0.1)),
        ("float32", np.nan, np.float32(np.nan)),
        ("float32", "NaN", np.float32(np.nan)),
        ("float32", np.array(2.5), np.float32(2.5)),
        ("float64", True, np.float64(1)),
        ("int16", np.int64(-5), np.int16(-5)),
        ("int16", 4.0, np.int16(4)),
        ("bool", 1, np.bool_(True)),
        ("bool", np.bool_(True), np.bool_(True)),
        ("complex64", 1 + 2j, np.complex64(1 + 2j)),
        ("complex64", 3, np.complex64(3)),
        ("complex128", np.complex64(2j), np.complex128(2j)),
        ("complex64", [1, 2], np.complex64(1 + 2j)),
        ("M8[s]", "2020-01-01", np.datetime64("2020-01-01", "s")),
        ("M8[s]", np.datetime64("2020-01-01T00:00:00.9", "ns"), np.datetime64("2020-01-01T00:00:00", "s")),
        ("M8[s]", datetime.datetime(2020, 1, 1), np.datetime64("2020-01-01", "s")),
        ("M8[ns]", "NaT", np.datetime64("NaT", "ns")),
        ("M8[ns]", np.datetime64("NaT", "D"), np.datetime64("NaT", "ns")),
        ("m8[s]", datetime.timedelta(minutes=1), np.timedelta64(60, "s")),
        ("m8[s]", np.timedelta64(2, "h"), np.timedelta64(7200, "s")),
        ("m8[s]", 5, np.timedelta64(5, "s")),
        ("S5", b"ab", np.bytes_(b"ab")),
        ("S5", "ab", np.bytes_(b"ab")),
        ("S5", np.bytes_(b"abcde"), np.bytes_(b"abcde")),
        ("U5", "ab", np.str_("ab")),
        ("U5", np.str_("ab"), np.str_("ab")),
        ("V2", b"ab", np.frombuffer(b"ab", "V2")[0]),
        ("V2", np.frombuffer(b"ab", "V2")[0], np.frombuffer(b"ab", "V2")[0]),
    ],
)
def test_a_value_of_the_caller_becomes_an_item(dtype, value, expected):
    data_type = from_numpy(dtype)
    assert bits(data_type, data_type.scalar(value)) == bits(data_type, expected)


@pytest.mark.parametrize(
    "dtype, value",
    [
        *[("uint8", value) for value in (300, 1.5, np.float64(0.5), "a", b"a", None, 1j, [1], np.array([1, 2]))],
        *[("float32", value) for value in (1e39, "a", None, 1j, np.datetime64("2020-01-01"))],
        *[("bool", value) for value in (2, 1.0, "a", None)],
        *[
            ("M8[s]", value)
            for value in ("a", 1.5, True, None, np.timedelta64(1, "s"), ["2020"], np.datetime64(2**62, "h"))
        ],
        *[("m8[D]", value) for value in (np.timedelta64(1, "Y"), np.datetime64("2020-01-01"), "x")],
        *[("S2", value) for value in (b"abc", "é", 5, None)],
        *[("U2", value) for value in ("abc", b"a", 5, None)],
        *[("V2", value) for value in (b"abc", "YWI=", 5, None)],
    ],
)
def test_a_value_that_is_no_item_is_refused(dtype, value):
    with pytest.raises(MetadataError, match=r"^fill_value"):
        from_numpy(dtype).scalar(value)


def test_the_bits_of_a_nan_of_the_same_data_type_are_kept():
    data_type = from_numpy("f4")
    signalling = np.array(0x7F800001, "u4").view("f4")[()]
    assert data_type.fill_value_to_json(data_type.scalar(signalling)) == "0x7f800001"


def test_a_very_long_item_costs_no_memory():
    data_type = from_json(named("null_terminated_bytes", length_bytes=dtypes.MAX_ITEMSIZE), "data_type")
    item = data_type.fill_value_from_json("YQ==", "fill_value")
    assert data_type.fill_value_to_json(item) == "YQ=="
    assert data_type.zero() == b""
