"""The catalogue of data sets: what a row names is there, and what it says fits together."""

import dataclasses
import importlib
import inspect

import pytest

from minisnn import data, models
from minisnn.catalogue import CATALOGUE, NAMES, Recipe, Recordings
from minisnn.data import events, recordings
from minisnn.options import EVENT_OPTIONS, Options


@pytest.mark.parametrize("name", NAMES)
def test_what_a_row_names_is_there(name):
    row = CATALOGUE[name]
    load = importlib.import_module(f"minisnn.data.{row.module}").load
    assert row.events == (set(EVENT_OPTIONS) <= set(inspect.signature(load).parameters))
    assert len(row.classes) in (0, row.stem.classes)
    if isinstance(row.source, Recordings):
        assert callable(getattr(events, row.source.read)) and callable(getattr(recordings, row.source.label))
    for model in (None, *(models.LAYERED if row.stem.size < 100 else ())):
        net = models.from_config({"preset": name, **Options(dataset=name, model=model, width=8).network()})
        assert not net.misfit((row.stem.channels, row.stem.size, row.stem.size)) and len(net.head.weight) == row.stem.classes


def test_a_recipe_is_defaults_of_the_options():
    assert {field.name for field in dataclasses.fields(Recipe)} <= {field.name for field in dataclasses.fields(Options)}
    for name in NAMES:
        for model, recipe in ((None, CATALOGUE[name].recipe), ("recurrent", CATALOGUE[name].quick(True))):
            chosen = Options(dataset=name, model=model)
            names = {field.name for field in dataclasses.fields(recipe)} - ({"model"} if model else set())
            assert all(getattr(chosen, field) == getattr(recipe, field) for field in names)


@pytest.mark.parametrize("name", [name for name in NAMES if CATALOGUE[name].source is None])
def test_built_in_sets_are_as_their_rows_say(name):
    row, dataset = CATALOGUE[name], data.load(name)
    assert dataset.classes == row.classes and dataset.train.size == (row.stem.channels, row.stem.size, row.stem.size)
    assert dataset.train.timesteps == row.recipe.timesteps
