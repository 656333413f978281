import pytest

from stn_jax.launch.selections import parse, parse_run

CHOICES = {"model": ["ST-FCN", "FCN"], "transform": {"Aff": 6, "location_scale": 3}}


def test_names_are_read_in_any_order_case_and_spelling():
    chosen = {"model": ["ST-FCN"], "transform": ["location_scale"]}
    for selection in ("Location-Scale, st_fcn,", "stfcn,location_scale"):
        assert parse(selection, CHOICES) == parse_run(selection, CHOICES) == chosen
    assert parse("", CHOICES) == {"model": [], "transform": []}


def test_a_sweep_takes_several_of_a_kind_and_a_run_one():
    assert parse("FCN,aff,ST-FCN", CHOICES)["model"] == ["FCN", "ST-FCN"]
    with pytest.raises(ValueError, match="one run takes one model, got FCN, ST-FCN"):
        parse_run("FCN,aff,ST-FCN", CHOICES)


def test_unknown_names_are_named_with_those_there_are():
    there_are = "There are model: ST-FCN FCN; transform: Aff location_scale"
    for selection, hint in (("Afff", " Did you mean Aff[?]"), ("resnet", "")):
        with pytest.raises(ValueError, match=f"no '{selection}' to select.{hint} {there_are}."):
            parse(selection, CHOICES)
