"""What is committed under results/ stands on the run records there."""

import json
import re
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from scripts import make_tables
from stn_jax.launch import birds, colocalisation, digits, gtsrb, mnist_3d, svhn
from stn_jax.models.pure import count_params
from stn_jax.reporting import benchmarks
from stn_jax.reporting.runs import read_run

RESULTS = Path(__file__).resolve().parents[1] / "results"
RECORDS = sorted((RESULTS / "records").rglob("record.jsonl"))
# Folders of records that tables are made of; those in "recipe" chose a recipe.
TABLES = sorted(path.name for path in (RESULTS / "records").iterdir() if path.name != "recipe")
# Of MNIST as published; of traffic signs, both sets, as they were found, resized to 32x32, and
# enlarged from them; of birds the 50 classes at hand, with shorter sides of 128 and 256 pixels.
FINGERPRINTS = {
    "mnist": ["ceda791d3e53beaf"],
    "gtsrb": ["07adc76e431b1d91", "4d7b80f45c884c8e"],
    "svhn": ["a5894cf77ad1708f"],
    "cub": ["66626d35d1ebf54f", "5bdd371774792e80"],
}


def lines(path):
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_there_are_records():
    assert len(RECORDS) > 10


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.parent.name)
def test_a_record_is_whole_and_tells_where_it_comes_from(path):
    header, *rest = lines(path)
    assert rest[-1]["kind"] == "end"
    assert rest[-1]["step"] == header["config"]["training"]["num_steps"]
    assert header["data"]["fingerprint"] in FINGERPRINTS[header["config"]["data"]["digits"]]
    paths = [value for value in header["config"]["runtime"].values() if isinstance(value, str)]
    assert not any(Path(path).is_absolute() for path in paths), "a place on one machine"
    for session in (line for line in rest if line["kind"] == "session"):
        assert re.fullmatch("[0-9a-f]{12}", session["code"]), "code that was not committed"
        assert session["device"]["kind"]
    assert path.stat().st_size < 100_000  # of 150,000 iterations: 55,000


# Experiment -> what builds its networks.
MAKE_MODEL = {
    "distorted_mnist": digits.make_model,
    "mnist_addition": digits.make_model,
    "mnist_3d": mnist_3d.make_model,
    "colocalisation": colocalisation.make_model,
    "gtsrb": gtsrb.make_model,
    "svhn": svhn.make_model,
    "birds": birds.make_model,
}
# Networks, each once: experiment, data and model of configs.
NETWORKS = {}
for path in RECORDS:
    run = read_run(path, relative_to=RESULTS)
    key = json.dumps([run.experiment, run.config["data"], run.config["model"]])
    if run.experiment == "colocalisation":  # sets of all digits have one network
        key = json.dumps([run.experiment, run.config["model"], run.config.get("restarts")])
    NETWORKS.setdefault(key, run)


@pytest.mark.parametrize("run", NETWORKS.values(), ids=lambda run: run.label)
def test_the_network_of_a_record_can_be_built_again(run):
    """Also that of a record from before a field of the config."""
    config = ConfigDict(run.config)
    model = MAKE_MODEL[run.experiment](config)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    assert count_params(params) * config.get("restarts", 1) == run.parameters


@pytest.mark.parametrize("folder", TABLES)
def test_the_tables_are_rendered_from_the_records(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(RESULTS.parent)
    make_tables.main([f"results/records/{folder}", "--out", str(tmp_path)])
    rendered = sorted(tmp_path.iterdir())
    assert rendered
    for path in rendered:
        assert path.read_text() == (RESULTS / "tables" / path.name).read_text(), path.name


def test_every_run_of_a_table_has_its_record():
    pages = [p for p in (RESULTS / "tables").glob("*.md") if "\nRuns:\n" in p.read_text()]
    assert len(pages) >= len(TABLES)
    for page in pages:
        names = re.findall(r"^\| `(\S+)` ", page.read_text().split("\nRuns:\n")[1], re.MULTILINE)
        assert names
        for name in names:
            (folder,) = [path.parent for path in RECORDS if path.parent.name == name]
            assert folder.parent.name in TABLES, f"{page.name} shows {name}"


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (r"RT?S?-\S+", 9),
        (r"addition-\S+", 4),
        (r"GTSRB-\S+", 13),
        (r"SVHN-\S+", 7),
        (r"birds-\S+", 10),
    ],
)
def test_recipes_were_chosen_by_these_validation_errors(names, count):
    page = (RESULTS / "README.md").read_text()
    rows = re.findall(rf"^\|.*\| ([\d. ]+) \| ([\d. ]+) \| ({names}) \|$", page, re.MULTILINE)
    assert len(rows) == count
    for error, loss, name in rows:
        record = lines(RESULTS / "records" / "recipe" / name / "record.jsonl")
        last = [line for line in record if line["kind"] == "eval"][-1]
        assert last["split"] == "validation"
        assert " ".join(f"{value:.2f}" for value in last["error"]) == error
        assert " ".join(f"{value:.4f}" for value in last["loss"]) == loss


def test_so_was_co_localisations():
    page = (RESULTS / "README.md").read_text()
    rows = re.findall(r"^\|.*\| ([\d ]+) \| (TC?\d-\S+) \|$", page, re.MULTILINE)
    assert len(rows) == 18
    for correct, name in rows:
        record = lines(RESULTS / "records" / "recipe" / name / "record.jsonl")
        last = [line for line in record if line["kind"] == "eval"][-1]
        assert last["split"] == "validation"
        assert [100 - error for error in last["error"]] == [int(n) for n in correct.split()]


@pytest.mark.parametrize("path", sorted((RESULTS / "benchmarks").glob("*.json")), ids=str)
def test_benchmark_pages_are_rendered_from_the_measurements(path):
    report = json.loads(path.read_text())
    assert path.with_suffix(".md").read_text() == benchmarks.markdown(report)
    for group in report.values():
        assert re.fullmatch("[0-9a-f]{12}", group["environment"]["code"])
