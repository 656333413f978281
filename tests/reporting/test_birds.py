"""Figures of birds."""

import numpy as np
import pytest

from stn_jax.reporting.birds import COLOURS, BirdExamples, save_birds, shown
from stn_jax.reporting.figures import new_figure


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("042.Vermilion_Flycatcher_of_old", "Vermilion Flycatcher …"),
        ("Sparrow", "Sparrow"),
    ],
)
def test_names_are_shown_without_numbers_and_not_too_long(name, expected):
    assert shown(name) == expected


def test_each_box_and_its_crop_have_one_colour(tmp_path, monkeypatch):
    """B20: four transformers, one bird."""
    corners = np.float32([[[[5, 5], [20, 5], [20, 20], [5, 20]]] * 4])
    examples = BirdExamples(
        name="a run",
        inputs=np.full((1, 32, 32, 3), 0.5),
        corners=corners,
        outputs=np.full((1, 4, 8, 8, 3), 0.25),
        labels=["1.A"],
        predictions=["2.B"],
    )
    figures = []

    def note(*args):
        figures.append(new_figure(*args))
        return figures[-1]

    monkeypatch.setattr("stn_jax.reporting.birds.new_figure", note)
    save_birds(examples, tmp_path / "a.png")
    above, *below = figures[0].axes
    assert [line.get_color() for line in above.lines] == list(COLOURS)
    outline = above.lines[0].get_xydata()
    np.testing.assert_array_equal(outline, [*corners[0, 0], corners[0, 0, 0]])
    assert [axes.spines["left"].get_edgecolor()[:3] for axes in below] == [
        tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)) for colour in COLOURS
    ]
    assert below[-1].get_xlabel() == "read as B"
