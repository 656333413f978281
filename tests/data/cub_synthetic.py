"""Made-up birds in the publisher's layout."""

import io
import tarfile

import numpy as np
from PIL import Image

from stn_jax.data.cub import PARTS

CLASSES = {2: "002.Grey_Bird", 5: "005.Red_Bird", 7: "007.Blue_Bird"}
PER_CLASS = 6
GREY = 3  # the number of an image without colours


def entries():
    """Return number, path, class, training or not, (width, height) of each image."""
    found = []
    for number, name in CLASSES.items():
        for i in range(PER_CLASS):
            image = len(found) + 1
            size = (40 + 3 * i, 30) if i % 2 else (32, 37 + number)
            # In another order than that of their names.
            path = f"{name}/Bird_{(7 * image) % 100:04d}_{image}.jpg"
            found.append((image, path, number, i % 3 != 0, size))
    return found


def jpeg(image, size):
    """Return an image that depends on its number alone, encoded."""
    random = np.random.default_rng(image)
    small = Image.fromarray(random.integers(0, 256, (5, 6, 3), np.uint8))
    picture = small.resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    (picture.convert("L") if image == GREY else picture).save(buffer, "jpeg", quality=95)
    return buffer.getvalue()


def box(image, size):
    """Return x, y, width, height."""
    return 1.5 + image % 3, 2.0, size[0] - 8.0, size[1] - 6.5


def parts(image, size):
    """Return x, y, visible or not of each part."""
    random = np.random.default_rng(1000 + image)
    points = np.round(random.uniform(1, np.array(size) - 1, (len(PARTS), 2)), 1)
    visible = random.random((len(PARTS), 1)) < 0.7
    return [(x, y, int(seen)) for x, y, seen in np.hstack([points * visible, visible]).tolist()]


def write(folder):
    """Write folder/CUB_200_2011 and return it."""
    root = folder / "CUB_200_2011"
    (root / "parts").mkdir(parents=True)
    lists = {name: [] for name in ("images", "image_class_labels", "train_test_split")}
    lists |= {"bounding_boxes": [], "parts/part_locs": []}
    for image, path, number, train, size in entries():
        (root / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "images" / path).write_bytes(jpeg(image, size))
        lists["images"].append((image, path))
        lists["image_class_labels"].append((image, number))
        lists["train_test_split"].append((image, int(train)))
        lists["bounding_boxes"].append((image, *box(image, size)))
        lists["parts/part_locs"] += [
            (image, part, *values) for part, values in enumerate(parts(image, size), start=1)
        ]
    lists["classes"] = CLASSES.items()
    lists["parts/parts"] = enumerate(PARTS, start=1)
    for name, lines in lists.items():
        text = "".join(" ".join(map(str, line)) + "\n" for line in lines)
        (root / f"{name}.txt").write_text(text)
    return root


def pack(root):
    """Pack the folder as the publisher does, images before most lists, and return the archive."""
    path = root.parent / "CUB_200_2011.tgz"
    files = sorted(p for p in root.rglob("*") if p.is_file())
    with tarfile.open(path, "w:gz") as archive:
        for file in reversed(files):
            archive.add(file, f"CUB_200_2011/{file.relative_to(root)}")
    return path
