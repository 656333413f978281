import pytest

from scripts import show_model


def rows(capsys):
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    return cells[2:]


def test_layers_of_st_cnn_multi(capsys):
    """The counts are those of the layers that A.5 lists, added up by hand."""
    show_model.main(["configs/svhn.py:Multi,64px"])
    found = {name: (shape, count) for name, shape, count in rows(capsys)}
    assert found["convs 0"] == ("5x5x3x48", "3,648")
    assert found["hidden 1"] == ("3072x3072", "9,440,256")
    assert found["transformers 3 regression"] == ("32x6", "198")
    counts = [int(count.replace(",", "")) for _, count in found.values()]
    assert sum(counts[:-1]) == counts[-1] == 37_937_903


@pytest.mark.parametrize("name", show_model.MODELS)
def test_every_experiment_has_a_model(name, capsys):
    show_model.main([f"configs/{name}.py"])
    assert int(rows(capsys)[-1][-1].replace(",", "")) > 5000


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("configs/svhn.py:Mulit", "Did you mean Multi?"),
        ("configs/svnh.py", "configs/svnh.py is none of configs/*.py: there are distorted_mnist,"),
    ],
)
def test_wrong_names(config, message):
    with pytest.raises(SystemExit, match="show_model.py: .*") as info:
        show_model.main([config])
    assert message in str(info.value)
