import h5py
import numpy as np
import pytest

from stn_jax.data import digit_struct
from stn_jax.data.digit_struct import BAD_LABEL
from tests.data import svhn_synthetic as synthetic


@pytest.fixture
def path(tmp_path):
    return tmp_path / "digitStruct.mat"


def test_equals_a_literal_reader(path):
    entries = synthetic.random_entries(25)
    synthetic.write_digit_struct(path, entries)
    read = list(digit_struct.read(path))
    assert digit_struct.count(path) == len(read) == 25
    for entry, (name, labels, boxes), given in zip(
        read, synthetic.read_plainly(path), entries, strict=True
    ):
        assert entry.name == name == given[0]
        assert entry.labels.tolist() == [0 if label == 10 else label for label in labels]
        assert entry.labels.dtype == np.int64 and entry.boxes.dtype == np.float64
        np.testing.assert_array_equal(entry.boxes, boxes)
        np.testing.assert_array_equal(entry.boxes, given[2])


def test_boxes_are_given_as_they_stand(path):
    boxes = [[-3, 0, 0, 5], [1.5, 700, -2, 4]]
    synthetic.write_digit_struct(path, [("a.png", [1, 2], boxes)])
    (entry,) = digit_struct.read(path)
    np.testing.assert_array_equal(entry.boxes, boxes)


def test_ten_is_zero_and_what_is_no_label_is_told(path):
    labels = [10, 1, 9, 0, 11, -1, 2.5, float("nan")]
    synthetic.write_digit_struct(path, [("a.png", labels, [[1, 1, 2, 2]] * 8)])
    (entry,) = digit_struct.read(path)
    assert entry.labels.tolist() == [0, 1, 9] + [BAD_LABEL] * 5


def test_what_was_read_is_not_kept(path):
    synthetic.write_digit_struct(path, synthetic.random_entries(300))
    sizes = []
    with digit_struct._File(path) as file:
        for name, box in zip(file.references("name"), file.references("bbox"), strict=True):
            file.entry(name, box)
            sizes.append(file._id.get_mdc_size()[2])  # of what the cache holds
    assert max(sizes) <= digit_struct._CACHE_BYTES


def test_an_image_without_boxes_has_none(path):
    synthetic.write_digit_struct(path, [("1.png", [], []), ("2.png", [3], [[1, 2, 3, 4]])])
    first, second = digit_struct.read(path)
    assert first.labels.shape == (0,) and first.boxes.shape == (0, 4)
    assert second.labels.tolist() == [3]


def null_reference(file):
    file["digitStruct/bbox"][3, 0] = h5py.Reference()


def without_field(file):
    del file[file["digitStruct/bbox"][3, 0]]["top"]


def shorter_field(file):
    group = file[file["digitStruct/bbox"][3, 0]]
    cells = group["top"][:-1]
    del group["top"]
    group.create_dataset("top", data=cells, dtype=h5py.ref_dtype)


def field_that_leads_nowhere(file):
    group = file[file["digitStruct/bbox"][3, 0]]
    cells = group["top"][()]
    cells[1, 0] = h5py.Reference()
    group["top"][...] = cells


def field_of_two_numbers(file):
    group = file[file["digitStruct/bbox"][3, 0]]
    file[group["left"][1, 0]].parent["two"] = np.zeros((2, 1))
    cells = group["left"][()]
    cells[1, 0] = file["#refs#/two"].ref
    group["left"][...] = cells


def name_that_is_a_group(file):
    file["digitStruct/name"][3, 0] = file["digitStruct/bbox"][3, 0]


def name_of_another_folder(file):
    file["#refs#/far"] = np.array([[ord(c)] for c in "../a.png"], "<u2")
    file["digitStruct/name"][3, 0] = file["#refs#/far"].ref


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (null_reference, "a reference leads nowhere"),
        (without_field, "top"),
        (shorter_field, "the fields of 4.png differ in length.*'top': 3"),
        (field_that_leads_nowhere, "a reference leads nowhere"),
        (field_of_two_numbers, r"\(2, 1\) numbers instead of one"),
        (name_that_is_a_group, "a reference leads to something of another kind"),
        (name_of_another_folder, r"'\.\./a\.png' is no file name"),
    ],
)
def test_a_damaged_entry_is_named(path, damage, reason):
    synthetic.write_digit_struct(path, synthetic.random_entries(6))
    with h5py.File(path, "r+") as file:
        damage(file)
    read = digit_struct.read(path)
    assert [next(read).name for _ in range(3)] == ["1.png", "2.png", "3.png"]
    with pytest.raises(ValueError, match=f"{path}: entry 4 of 6 is damaged .*{reason}") as caught:
        next(read)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 300, 2000, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_refused(path, keep):
    synthetic.write_digit_struct(path, synthetic.random_entries(20))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    for use in (digit_struct.count, lambda p: list(digit_struct.read(p))):
        with pytest.raises(ValueError, match=f"{path}: not a MATLAB 7.3 .*cut short") as caught:
            use(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["name", "bbox"])
def test_a_missing_part_is_named(path, field):
    synthetic.write_digit_struct(path, synthetic.random_entries(3))
    with h5py.File(path, "r+") as file:
        del file["digitStruct"][field]
    with pytest.raises(ValueError, match=f"no readable digitStruct/{field}"):
        list(digit_struct.read(path))
    with h5py.File(path, "r+") as file:
        file["digitStruct"][field] = np.zeros((3, 1))
    with pytest.raises(ValueError, match=f"digitStruct/{field} holds float64, not references"):
        list(digit_struct.read(path))


def test_other_numbers_of_names_than_of_boxes_are_refused(path):
    synthetic.write_digit_struct(path, synthetic.random_entries(3))
    with h5py.File(path, "r+") as file:
        cells = file["digitStruct/name"][:2]
        del file["digitStruct/name"]
        file["digitStruct"].create_dataset("name", data=cells, dtype=h5py.ref_dtype)
    with pytest.raises(ValueError, match="2 names, but 3 entries of boxes"):
        list(digit_struct.read(path))


def test_a_file_that_is_not_there(path):
    with pytest.raises(FileNotFoundError, match=f"{path} is not there"):
        list(digit_struct.read(path))


def test_random_damage_gives_values_or_one_clear_error(path):
    """Bytes turned round anywhere: never another exception, never a crash."""
    synthetic.write_digit_struct(path, synthetic.random_entries(6))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), 40):
            damaged[at] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            list(digit_struct.read(path))
        except ValueError as error:
            assert str(path) in str(error)
