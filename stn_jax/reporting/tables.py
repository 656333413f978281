"""Tables 1 to 5, those of 3-D MNIST and of traffic signs, published numbers beside ours."""

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from stn_jax.reporting.published import (
    CUB_NUM_TEST,
    CUB_NUM_TRAIN,
    GTSRB,
    GTSRB_FAST,
    GTSRB_FAST_NOTES,
    GTSRB_MODERN,
    GTSRB_MODERN_NOTES,
    GTSRB_NAME,
    GTSRB_NOTES,
    GTSRB_NUM_TEST,
    GTSRB_NUM_TRAIN,
    MNIST_3D,
    MNIST_3D_NOTES,
    MNIST_FINGERPRINT,
    SVHN_NUM_TEST,
    SVHN_NUM_TRAIN,
    TABLE_1,
    TABLE_1_NOTES,
    TABLE_2,
    TABLE_2_NOTES,
    TABLE_3,
    TABLE_3_NOTES,
    TABLE_4,
    TABLE_4_NOTES,
    TABLE_5,
    TABLE_5_NOTES,
)
from stn_jax.reporting.runs import RecordError, Run, settings

# As configs call them -> as the paper does.
MODELS = {"fcn": "FCN", "cnn": "CNN", "st_fcn": "ST-FCN", "st_cnn": "ST-CNN"}
TRANSFORMS = {
    "": "",
    "affine": "Aff",
    "projective": "Proj",
    "tps": "TPS",
    "piecewise_affine": "PWA",
    "attention": "Attention",
    "rotation_scale_translation": "Sim",
    "affine_3d": "Aff",
}
# Likewise, with what the paper calls the two ST-CNNs of Table 2.
SVHN_MODELS = {
    "cnn": ("CNN", ""),
    "st_cnn_single": ("ST-CNN", "Single"),
    "st_cnn_multi": ("ST-CNN", "Multi"),
}
# Likewise, by the convolutions that transformers stand before.
GTSRB_MODELS = {
    (): ("CNN", ""),
    (1,): ("ST-CNN", "one"),
    (1, 3): ("ST-CNN", "two"),
    (1, 2, 3): ("ST-CNN", "three"),
}
# Marks of cells -> how the notes on them begin.
SETTINGS, UNFINISHED, DIVERGED, SEEDS, LEFT_OUT = "s", "u", "d", "n", ""
MARKS = {
    SETTINGS: "settings not the recipe's: ",
    UNFINISHED: "not finished, ",
    DIVERGED: "diverged, ",
    SEEDS: "fewer seeds than others, ",
    LEFT_OUT: "Left out, ",
}


class Place(NamedTuple):
    """A cell of a table, in the paper's words; in Table 5 a digit stands in the model's place."""

    distortion: str
    model: str
    transform: str

    def __str__(self) -> str:
        return " ".join(filter(None, self))


def _network_place(config: dict[str, Any]) -> Place:
    data, model = config["data"], config["model"]
    count = model.get("num_transformers", 1)
    name = f"{count}x{MODELS[model['name']]}" if count > 1 else MODELS[model["name"]]
    return Place(data["distortion"], name, TRANSFORMS[model["transform"]])


def _digit_place(config: dict[str, Any]) -> Place:
    return Place(config["data"]["distortion"], str(config["data"]["digit"]), "")


def _number_place(config: dict[str, Any]) -> Place:
    return Place(config["data"]["images"], *SVHN_MODELS[config["model"]["name"]])


def _sign_place(config: dict[str, Any]) -> Place:
    before = tuple(config["model"]["transformers"])
    others = ("ST-CNN", f"before {' and '.join(map(str, before))}")
    names = list(GTSRB_MODELS.get(before, others))
    # Normalisation and width, if not the usual ones, go with the last name that there is; the first
    # records do not have the field.
    names[-1 if names[-1] else 0] += "".join(f" {name}" for name in config.get("variant", ()))
    return Place(config["length"], *names)


Published = dict[tuple[str, str], dict[str, float | None]]


def _bird_place(config: dict[str, Any]) -> Place:
    data, model = config["data"], config["model"]
    count = model["num_transformers"]
    name = f"{count}x{MODELS[model['name']]}" if count else MODELS[model["name"]]
    return Place(data["images"], name, model["transform"].replace("_", "-"))


class Layout(NamedTuple):
    """What one table of the paper does not have in common with the others.

    Attributes:
      name: what it is called.
      stem: how the names of its files begin.
      toy: what a table like it is called on digits other than MNIST's.
      published: (model, transform) -> distortion -> percent, or None.
      notes: on what is published.
      quantity: what the numbers are.
      counts_right: whether they are what is right, not what is wrong.
      place: gives the cell of a config.
      digits: the digits of the paper.
      toy_recipes: those that are not compared with the paper, whatever the digits.
      toy_columns: columns that only they have.
      toy_heading: how their titles begin; by default with what they are called and the digits.
      decimals: of the published numbers.
      beside: recipe -> what is published beside it, and notes, instead of those above.
      others: measure of the last step that notes give, too -> what it is.
      names_data: whether a note says which data the numbers stand on.
    """

    name: str
    stem: str
    toy: str
    published: Published
    notes: tuple[str, ...]
    quantity: str = "test error in %"
    counts_right: bool = False
    place: Callable[[dict[str, Any]], Place] = _network_place
    digits: str = "mnist"
    toy_recipes: tuple[str, ...] = ("quickstart",)
    toy_columns: tuple[str, ...] = ()
    toy_heading: str = ""
    decimals: int = 1
    beside: dict[str, tuple[Published, tuple[str, ...]]] = MappingProxyType({})
    others: dict[str, str] = MappingProxyType({})
    names_data: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The distortions, or other kinds of images."""
        tables = [self.published, *(published for published, _ in self.beside.values())]
        names = [name for table in tables for name in next(iter(table.values()))]
        return (*names, *self.toy_columns)

    def printed(self, recipe: str) -> tuple[Published, tuple[str, ...]]:
        """Return what is published beside a recipe, and the notes on it."""
        return self.beside.get(recipe, (self.published, self.notes))


# By experiment.
LAYOUTS = {
    "distorted_mnist": Layout("Table 1, distorted MNIST", "table1", "Toy", TABLE_1, TABLE_1_NOTES),
    "svhn": Layout(
        "Table 2, SVHN",
        "table2",
        "House numbers in small",
        TABLE_2,
        TABLE_2_NOTES,
        quantity="sequence error in %",
        place=_number_place,
        digits="svhn",
        toy_recipes=("reduced",),
        toy_columns=("crops", "canvases"),
        toy_heading=(
            "House numbers in small, not Table 2: a quarter of the filters and units, crops of "
            "half the side, or put on canvases"
        ),
        others={"digit_error": "error a digit in %"},
        names_data=True,
    ),
    "birds": Layout(
        "Table 3, CUB-200-2011",
        "table3",
        "Birds in small",
        TABLE_3,
        TABLE_3_NOTES,
        quantity="test accuracy in %",
        counts_right=True,
        place=_bird_place,
        digits="cub",
        toy_recipes=("reduced",),
        toy_columns=("half224px", "half448px"),
        others={"inside": "part of the crops that lies in the image"},
        names_data=True,
        toy_heading=(
            "Birds in small, not Table 3: 50 of 200 classes, images and crops of half the side, "
            "Inception-v3 up to mixed_7 of which mixed_6 and mixed_7 are fine-tuned and the rest "
            "frozen"
        ),
    ),
    "mnist_addition": Layout(
        "Table 4, MNIST addition", "table4", "Toy addition", TABLE_4, TABLE_4_NOTES
    ),
    "colocalisation": Layout(
        "Table 5, co-localisation",
        "table5",
        "Toy co-localisation",
        TABLE_5,
        TABLE_5_NOTES,
        quantity="correct boxes in %",
        counts_right=True,
        place=_digit_place,
        others={
            "ink_error": "boxes in % that are wrong against the ink's own box instead, some 20 px "
            "of the 28, which one around all 28 overlaps by about half at most"
        },
    ),
    "mnist_3d": Layout("3-D MNIST", "mnist_3d", "Toy volumes", MNIST_3D, MNIST_3D_NOTES),
    "gtsrb": Layout(
        "Traffic signs, GTSRB",
        "gtsrb",
        "Toy signs",
        GTSRB,
        GTSRB_NOTES,
        quantity="test accuracy in %",
        counts_right=True,
        place=_sign_place,
        digits="gtsrb",
        toy_recipes=(),
        decimals=2,
        beside={
            "fast": (GTSRB_FAST, GTSRB_FAST_NOTES),
            "modern": (GTSRB_MODERN, GTSRB_MODERN_NOTES),
        },
        others={"overlap": "overlap of the first transformer's region with the sign's box"},
        names_data=True,
    ),
}


class Remark(NamedTuple):
    """Something to know about a cell: its mark (or ""), the particulars, the run they are of."""

    mark: str
    text: str
    label: str = ""


@dataclass(frozen=True)
class Cell:
    """What there is for one cell.

    Attributes:
      place: which cell.
      published: in percent, or None.
      runs: those that count.
      remarks: also on runs that do not count.
      counts_right: as in the layout.
    """

    place: Place
    published: float | None = None
    runs: tuple[Run, ...] = ()
    remarks: tuple[Remark, ...] = ()
    counts_right: bool = False

    @property
    def errors(self) -> dict[int, float]:
        """The test error in percent at the last step, by seed."""
        return {
            seed: error for run in self.runs for seed, error in run.final_errors("test").items()
        }

    @property
    def mean(self) -> float | None:
        """What the table shows, the mean over seeds; None without any."""
        if not self.errors:
            return None
        error = statistics.fmean(self.errors.values())
        return 100 - error if self.counts_right else error

    @property
    def std(self) -> float | None:
        """The sample standard deviation (n - 1) over seeds, None with less than two."""
        return statistics.stdev(self.errors.values()) if len(self.errors) > 1 else None

    @property
    def marks(self) -> str:
        """The letters of the remarks, each once."""
        return "".join(dict.fromkeys(remark.mark for remark in self.remarks))


@dataclass(frozen=True)
class Table:
    """One table: one recipe of an experiment on one set of digits.

    Attributes:
      recipe: the config's recipe.
      stem: the table's file name without its ending.
      compared: whether published numbers stand beside ours.
      decimals: of these.
      title: what it shows, with the settings that hold for all of it.
      columns: the distortions.
      rows: (model, transform).
      cells: by place.
      notes: (mark or "", text) under the table.
      runs: all runs of the table, those that do not count too.
    """

    recipe: str
    stem: str
    compared: bool
    decimals: int
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    cells: dict[Place, Cell]
    notes: list[tuple[str, str]]
    runs: list[Run]


def build_tables(
    runs: Iterable[Run], reference: Callable[[str, Place, str], dict[str, Any]]
) -> list[Table]:
    """Build one table a recipe; digits other than MNIST's never share a table with MNIST's.

    Only what the last step of a finished run measured on the test set counts. Runs of one cell with
    the same settings and different seeds are pooled. Runs that depart from their recipe are shown
    only where there is none that does not, and marked.

    Args:
      runs: runs of the experiments that have a layout.
      reference: function of (experiment, place, recipe), giving the config, as nested dicts of JSON
        values, that the recipe stands for.

    Raises:
      RecordError: on a run of another experiment, or on a seed that was run twice.
    """
    groups: dict[tuple[str, str, str], dict[Place, list[Run]]]
    groups = defaultdict(lambda: defaultdict(list))
    for run in runs:
        place = place_of(run)
        groups[run.experiment, run.config["recipe"], run.config["data"]["digits"]][place].append(
            run
        )
    return [_table(*key, groups[key], reference) for key in sorted(groups)]


def place_of(run: Run) -> Place:
    """Return the cell that a run belongs to.

    Raises:
      RecordError: if it belongs to none.
    """
    if run.experiment not in LAYOUTS:
        raise RecordError(f"{run.path}: the experiment {run.experiment} has no table here.")
    layout = LAYOUTS[run.experiment]
    try:
        place = layout.place(run.config)
        known = place.distortion in layout.columns and "digits" in run.config["data"]
    except (KeyError, TypeError):
        known = False
    if not known:
        number = layout.name.split(",")[0]
        raise RecordError(f"{run.path}: run {run.name} is not one of {number}.")
    return place


def _table(
    experiment: str,
    recipe: str,
    digits: str,
    runs: dict[Place, list[Run]],
    reference: Callable[[str, Place, str], dict[str, Any]],
) -> Table:
    layout = LAYOUTS[experiment]
    of_paper = digits == layout.digits and recipe not in layout.toy_recipes
    references = {}
    for place, (run, *_) in runs.items():
        try:
            references[place] = reference(experiment, place, recipe)
        except ValueError as error:
            raise RecordError(f"{run.path}: {error}") from error
    published, notes = layout.printed(recipe) if of_paper else ({}, ())
    rows, columns = _rows_and_columns(layout, published, runs)
    compared = any(value is not None for row in published.values() for value in row.values())
    cells = {}
    for distortion in columns:
        for row in rows:
            place = Place(distortion, *row)
            value = published.get(row, {}).get(distortion)
            cells[place] = (
                _cell(place, value, runs[place], references[place])
                if place in runs
                else Cell(place, value)
            )
            cells[place] = replace(cells[place], counts_right=layout.counts_right)
    seeds = sorted({seed for cell in cells.values() for seed in cell.errors})
    cells = {place: _with_seed_remark(cell, seeds) for place, cell in cells.items()}

    toy = layout.toy_heading or f"{layout.toy} on {digits} digits, not an experiment of the paper"
    what = (
        f"{layout.name}: {layout.quantity}{', published / ours' * compared}"
        if of_paper
        else f"{toy}: {layout.quantity}"
    )
    spread = " ± standard deviation (n - 1) over seeds" if len(seeds) > 1 else ""
    toy_stem = layout.toy.lower().replace(" ", "_")
    return Table(
        recipe=recipe,
        stem=f"{layout.stem}_{recipe}" if of_paper else f"{toy_stem}_{recipe}_{digits}",
        compared=compared,
        decimals=layout.decimals,
        title=f"{what}{spread}. {_settings(recipe, list(references.values()), seeds)}",
        columns=columns,
        rows=rows,
        cells=cells,
        notes=_notes(cells.values(), (*notes, *_remarks(layout, cells.values())), compared),
        runs=[run for place in cells for run in runs.get(place, [])],
    )


def _rows_and_columns(
    layout: Layout, published: Published, places: Iterable[Place]
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return the published rows and columns, or those in use; what is not published goes last."""
    found = {(place.model, place.transform) for place in places}
    order = [(m, t) for m in MODELS.values() for t in TRANSFORMS.values()]
    known = published or layout.published
    extra = sorted(
        found - set(known),
        key=lambda row: (order.index(row) if row in order else len(order), row),
    )
    rows = tuple(row for row in known if published or row in found) + tuple(extra)
    shown = {place.distortion for place in places}.union(*published.values())
    return rows, tuple(name for name in layout.columns if name in shown)


def _cell(place: Place, published: float | None, runs: list[Run], wanted: dict) -> Cell:
    # Settings, as departures from the recipe's -> runs.
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[_departure(run, wanted)].append(run)
    for group in groups.values():
        _check_seeds(place, group)
        _check_data(place, group)
    # The recipe's own settings are shown, else the only others that have a result; no mixtures.
    with_result = [d for d, group in groups.items() if any(r.final_errors("test") for r in group)]
    candidates = [""] if "" in groups else with_result or list(groups)
    shown = candidates[0] if len(candidates) == 1 else None
    eligible = groups.pop(shown, [])
    counted = tuple(run for run in eligible if run.final_errors("test"))

    remarks = [Remark(SETTINGS, shown)] if shown else []
    # A number that stands on other runs is none the worse for those left out.
    mark = LEFT_OUT if counted else SETTINGS
    remarks += [Remark(mark, d, run.label) for d, group in groups.items() for run in group]
    for run in eligible:
        if run.status != "finished":
            mark = {"diverged": DIVERGED, "unfinished": UNFINISHED}[run.status]
            remarks.append(Remark(mark, f"at step {run.step:,} of {run.num_steps:,}", run.label))
    return Cell(place, published, counted, tuple(remarks))


def _departure(run: Run, wanted: dict[str, Any]) -> str:
    """Say what a run computes differently from its recipe; "" if nothing.

    Fields that the config has and the record has not came later: whoever adds a field gives it a
    default that does what was done before. A factor on a learning rate that is not there is 1.
    """
    wanted = settings(wanted)
    factors = {name: 1.0 for name in wanted if name.startswith("optimizer.multipliers.")}
    texts = [
        f"{name} {value} instead of {wanted.get(name, 'absent')}"
        for name, value in sorted((factors | settings(run.config)).items())
        if value != wanted.get(name)
    ]
    if run.config["data"]["digits"] == "mnist" and run.fingerprint != MNIST_FINGERPRINT:
        texts.append(f"data {run.fingerprint}, not the published MNIST")
    if run.experiment == "svhn" and run.config["recipe"] == "paper":
        num_train = SVHN_NUM_TRAIN - run.config["data"]["held_out"]
        if (run.num_trained, run.num_tested) != (num_train, SVHN_NUM_TEST):
            texts.append(
                f"trained on {run.num_trained:,} and tested on {run.num_tested:,} images, not on "
                f"SVHN's {num_train:,} and {SVHN_NUM_TEST:,}"
            )
    if run.experiment == "gtsrb" and run.config["data"]["evaluate_on"] == "test":
        num_train = run.config["data"].get("images") or GTSRB_NUM_TRAIN
        if (run.num_trained, run.num_tested) != (num_train, GTSRB_NUM_TEST):
            texts.append(
                f"trained on {run.num_trained:,} and tested on {run.num_tested:,} images, not on "
                f"{num_train:,} and {GTSRB_NUM_TEST:,}"
            )
        if run.config["data"]["size"] == 48 and run.data != GTSRB_NAME:
            texts.append(f"images {run.data}, not {GTSRB_NAME} of the originals")
    if run.experiment == "birds" and run.config["recipe"] == "paper":
        if (run.num_trained, run.num_tested) != (CUB_NUM_TRAIN, CUB_NUM_TEST):
            texts.append(
                f"trained on {run.num_trained:,} and tested on {run.num_tested:,} images, not on "
                f"CUB's {CUB_NUM_TRAIN:,} and {CUB_NUM_TEST:,}"
            )
        if run.data != f"cub_{run.config['data']['size']}":
            texts.append(f"images {run.data}, not all 200 classes")
    return ", ".join(texts)


def _check_seeds(place: Place, runs: list[Run]) -> None:
    first: dict[int, Run] = {}
    for run in runs:
        for seed in run.seeds:
            if seed in first:
                raise RecordError(
                    f"{place}: seed {seed} is in both {first[seed].path} and {run.path}; "
                    "leave one of them out."
                )
            first[seed] = run


def _check_data(place: Place, runs: list[Run]) -> None:
    """Refuse to pool results on different data, or of different weights to begin with."""
    tested = [run for run in runs if run.final_errors("test")]
    first = {run.fingerprint: run for run in tested}
    if len(first) > 1:
        which = "; ".join(f"{run.path}: {run.data}, {mark}" for mark, run in first.items())
        raise RecordError(f"{place}: the runs are not on the same data ({which}); leave some out.")
    first = {json.dumps(run.beside, sort_keys=True): run for run in tested}
    if len(first) > 1:
        which = "; ".join(f"{run.path}: {beside}" for beside, run in first.items())
        raise RecordError(f"{place}: the runs were not given the same ({which}); leave some out.")


def _with_seed_remark(cell: Cell, seeds: list[int]) -> Cell:
    if not cell.errors or sorted(cell.errors) == seeds:
        return cell
    return replace(cell, remarks=(*cell.remarks, Remark(SEEDS, f"only {_seeds(cell.errors)}")))


def _settings(recipe: str, references: list[dict[str, Any]], seeds: list[int]) -> str:
    def values(section: str, name: str) -> str:
        found = dict.fromkeys(reference[section][name] for reference in references)
        return " or ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in found)

    names = {"sgd": "SGD", "adam": "Adam"}
    optimizer = values("optimizer", "name")
    parts = [
        f"Recipe '{recipe}': {names.get(optimizer, optimizer)}",
        f"{values('training', 'num_steps')} iterations",
        f"momentum {values('optimizer', 'momentum')}",
        _seeds(seeds) if seeds else "no finished run",
    ]
    return ", ".join(parts) + "."


def _notes(
    cells: Iterable[Cell], published: Iterable[str], compared: bool
) -> list[tuple[str, str]]:
    cells = list(cells)
    notes = [("", text) for text in published]
    if any(cell.mean is None or compared and cell.published is None for cell in cells):
        notes.append(("", f"–: {'not published, or ' * compared}no finished run."))
    # Cells that share a remark share its note.
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for cell in cells:
        for mark, text, label in cell.remarks:
            places[mark, text].append(f"{cell.place} ({label})" if label else str(cell.place))
    for mark, meaning in MARKS.items():
        for (other, text), where in places.items():
            if other == mark:
                notes.append((mark, f"{meaning}{text}: {'; '.join(where)}."))
    return notes


def _remarks(layout: Layout, cells: Iterable[Cell]) -> list[str]:
    """Return notes on what cells stand on, and on what was measured beside."""
    cells = [cell for cell in cells if cell.runs]
    notes = []
    if layout.names_data:
        places: dict[str, list[str]] = defaultdict(list)
        for cell in cells:
            places[f"{cell.runs[0].data}, fingerprint {cell.runs[0].fingerprint}"].append(
                str(cell.place)
            )
        for data, where in places.items():
            suffix = f": {'; '.join(where)}" if len(places) > 1 else ""
            notes.append(f"Ours: images {data}{suffix}.")
        if any("_from_" in data for data in places):
            notes.append("from_32: of 32x32 pixels, resized by somebody before, not the originals.")
    for name, meaning in layout.others.items():
        texts = []
        for cell in cells:
            values = [v for run in cell.runs for v in run.final_others("test", name).values()]
            if values:
                texts.append(f"{cell.place} {statistics.fmean(values):.2f}")
        if texts:
            notes.append(f"Ours, {meaning}, mean over seeds: {'; '.join(texts)}.")
    return notes


def _seeds(seeds: Iterable[int]) -> str:
    seeds = sorted(seeds)
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
