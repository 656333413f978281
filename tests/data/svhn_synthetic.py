"""Small data sets in SVHN's published form, and a literal reader of their boxes."""

import io
import tarfile

import h5py
import numpy as np
from PIL import Image

BOX_FIELDS = ("left", "top", "width", "height")


def write_digit_struct(path, entries):
    """Write (name, labels, boxes) as MATLAB 7.3 does; boxes are left, top, width, height."""
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")

        def store(content):
            return refs.create_dataset(f"r{len(refs)}", data=content).ref

        def table(references):
            array = np.empty((len(references), 1), object)
            array[:, 0] = references
            return array

        names, groups = [], []
        for name, labels, boxes in entries:
            names.append(store(np.array([[ord(c)] for c in name], "<u2")))
            if not len(labels):  # MATLAB stores the shape of what is empty
                groups.append(empty := store(np.array([0, 0], "<u8")))
                refs[h5py.h5r.get_name(empty, file.id)].attrs["MATLAB_empty"] = np.uint8(1)
                continue
            group = refs.create_group(f"g{len(refs)}")
            groups.append(group.ref)
            columns = zip(*boxes, strict=True)
            fields = {"label": labels, **dict(zip(BOX_FIELDS, columns, strict=True))}
            for field in sorted(fields):
                values = [[[float(value)]] for value in fields[field]]
                if len(values) == 1:
                    group[field] = np.array(values[0])
                else:
                    cells = table([store(np.array(v)) for v in values])
                    group.create_dataset(field, data=cells, dtype=h5py.ref_dtype)
        root = file.create_group("digitStruct")
        root.create_dataset("name", data=table(names), dtype=h5py.ref_dtype)
        root.create_dataset("bbox", data=table(groups), dtype=h5py.ref_dtype)
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(512))


def read_plainly(path):
    """Return (name, labels, boxes) of each entry, labels as stored."""
    found = []
    with h5py.File(path) as file:
        for name, box in zip(file["digitStruct/name"], file["digitStruct/bbox"], strict=True):
            group = file[box[0]]
            columns = []
            for field in ("label", *BOX_FIELDS):
                cells = group[field][()]
                if cells.dtype == object:
                    columns.append([file[cell][0, 0] for cell in cells[:, 0]])
                else:
                    columns.append([cells[0, 0]])
            text = "".join(chr(unit) for unit in file[name[0]][:, 0])
            found.append((text, columns[0], np.array(columns[1:]).T))
    return found


def random_entries(count, *, size=(40, 30), seed=0):
    """Draw numbers of 1 to 5 digits with boxes inside an image of that width and height."""
    rng = np.random.default_rng(seed)
    entries = []
    for i in range(count):
        digits = 1 + i % 5
        labels = rng.integers(1, 11, digits).tolist()
        lefts = 2 + np.arange(digits) * 7 + rng.integers(0, 2, digits)
        tops, heights = rng.integers(1, 9, digits), rng.integers(8, 20, digits)
        boxes = np.stack([lefts, tops, np.full(digits, 6), heights], axis=1)
        entries.append((f"{i + 1}.png", labels, boxes.tolist()))
    assert size[0] >= 40 and size[1] >= 30
    return entries


def png(name, *, size=(40, 30)):
    """Return a smooth colour image that depends on the name."""
    rng = np.random.default_rng(list(name.encode()))
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
    buffer = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).save(buffer, "png")
    return buffer.getvalue()


def write_folder(folder, entries, *, images=None):
    """Write an unpacked split; `images` replaces contents by name, None leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    write_digit_struct(folder / "digitStruct.mat", entries)
    for name, _, _ in entries:
        content = {name: png(name), **(images or {})}[name]
        if content is not None:
            (folder / name).write_bytes(content)
    return folder


def pack(folder, *, last=True):
    """Pack an unpacked split as published, its digitStruct.mat last or first."""
    archive = folder.parent / f"{folder.name}.tar.gz"
    # By text, so 10.png comes before 2.png.
    files = sorted(folder.iterdir(), key=lambda p: ((p.suffix == ".mat") == last, p.name))
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, folder.name, recursive=False)
        for path in files:
            file.add(path, f"{folder.name}/{path.name}")
    return archive


def pixels(name):
    """Return the image of a name, uint8 [30, 40, 3]."""
    return np.asarray(Image.open(io.BytesIO(png(name))))
