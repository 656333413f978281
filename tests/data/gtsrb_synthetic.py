"""Made-up traffic signs in the publisher's layout, and the same ones as sheets of tiles."""

import csv

import numpy as np
from PIL import Image

SIZE = 32  # of the sheets' tiles
TRACKS, FRAMES = 2, 3


def rows(classes=3, test=7):
    """Return name, (width, height), (left, top, right, bottom), class: of train, and of test."""
    train = [
        (f"{label:05d}/{track:05d}_{frame:05d}.ppm", label, frame)
        for label in range(classes)
        for track in range(TRACKS)
        for frame in range(FRAMES)
    ]
    other = [(f"{number:05d}.ppm", number % classes, number % 2) for number in range(test)]
    return [
        [
            (name, (SIZE, SIZE + 2 * frame), (5, 6, SIZE - 5, SIZE - 6 + frame), label)
            for name, label, frame in part
        ]
        for part in (train, other)
    ]


def pixels(name, size):
    """Return an image that depends on its name alone, uint8 [height, width, 3]."""
    seed = int("".join(c for c in name if c.isdigit()))
    return np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)


def write_official(folder, **counts):
    """Write the unpacked archives; lists are in another order than the files' names."""
    train, test = rows(**counts)
    lists = {}
    for split, entries in (("Final_Training", train), ("Final_Test", test)):
        images = folder / split / "Images"
        for name, size, box, label in entries:
            path = images / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(name, size)).save(path)
            in_test = split == "Final_Test"
            list_path = folder / "GT-final_test.csv" if in_test else path.parent / "GT-{}.csv"
            list_path = list_path.with_name(list_path.name.format(path.parent.name))
            lists.setdefault(list_path, []).append([path.name, *size, *box, label])
    header = ["Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId"]
    for path, lines in lists.items():
        with path.open("w", newline="") as file:
            csv.writer(file, delimiter=";").writerows([header, *reversed(lines)])
    return folder


def write_sheets(folder, **counts):
    """Write sheets with as many rows of tiles as are needed, lossless, and their lists."""
    folder.mkdir(parents=True, exist_ok=True)
    header = ["index", "name", "label", "original_width", "original_height"]
    header += ["roi_x1", "roi_y1", "roi_x2", "roi_y2"]
    for split, entries in zip(("train", "test"), rows(**counts), strict=True):
        sheet = np.zeros((SIZE * -(-len(entries) // 32), 1024, 3), np.uint8)
        lines = []
        for i, (name, size, box, label) in enumerate(entries):
            tile = Image.fromarray(pixels(name, size)).resize((SIZE, SIZE))
            y, x = SIZE * (i // 32), SIZE * (i % 32)
            sheet[y : y + SIZE, x : x + SIZE] = tile
            lines.append([i, name, label, *size, *box])
        Image.fromarray(sheet).save(folder / f"{split}_00.webp", lossless=True)
        with (folder / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *lines])
    return folder
