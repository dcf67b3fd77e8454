"""Settings: what their types allow is all that is taken, and a refusal says what to give instead."""

import dataclasses
import math
import re

import numpy as np
import pytest

from woodshed import config
from woodshed.audio.ace import estimate, generate, prepare
from woodshed.audio.ace import settings as ace
from woodshed.audio.codec_check import CheckSettings
from woodshed.audio.codecs._settings import CodecSettings
from woodshed.audio.gan import settings as gan
from woodshed.audio.labels.annotate import AnnotateSettings
from woodshed.config import Allowed, allowed, check, read_fields
from woodshed.errors import InputError
from woodshed.symbolic.data.prepare import PrepareSettings
from woodshed.symbolic.judging.compare import CompareSettings
from woodshed.symbolic.judging.doctor import DoctorSettings
from woodshed.symbolic.judging.evaluate import EvaluateSettings
from woodshed.symbolic.learning.settings import TrainSettings
from woodshed.symbolic.playing.decode import Sampling
from woodshed.symbolic.playing.settings import GenerateSettings

KINDS = [estimate.EstimateSettings, prepare.PrepareSettings, ace.TrainSettings, CheckSettings, CodecSettings]
KINDS += [gan.GanSettings, gan.GenerateSettings, gan.EvaluateSettings, AnnotateSettings, PrepareSettings]
KINDS += [CompareSettings, DoctorSettings, TrainSettings, Sampling, EvaluateSettings, GenerateSettings]
SETTINGS = [*(kind() for kind in KINDS), generate.PlaySettings("piano")]


def outside(rule) -> list:
    """Values that lie just beyond what is allowed."""
    if not isinstance(rule, Allowed):
        return ["nonsense"]
    beyond = [rule.above, rule.below, None if rule.least is None else rule.least - 1]
    beyond += [None if rule.most is None else rule.most + 1, math.nan, math.inf]
    return [value for value in beyond if value is not None]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: f"{type(settings).__module__}")
def test_what_a_type_does_not_allow_is_refused_by_flag_and_value(settings):
    config.check(settings)
    for name, kinds in allowed(type(settings)).items():
        for value in outside(kinds[0][1]) if kinds[0][1] else [object()]:
            told = re.escape(f"{config.flag(name)} {value!r}: ") + "(give|choose from) "
            with pytest.raises(InputError, match=told):
                config.check(dataclasses.replace(settings, **{name: value}))


@pytest.mark.parametrize(
    ("allowed", "value", "told"),
    [
        (Allowed(above=0), 0, "give more than 0"),
        (Allowed(above=0), math.inf, "give more than 0, and a finite number"),
        (Allowed(0, below=1), 1.0, "give 0 or more, less than 1"),
        (Allowed(above=0, most=1), 2, "give more than 0, at most 1"),
        (Allowed(1, 2000), 0, "give 1 to 2000"),
        (Allowed(1, hint="none is also a choice"), 0, "give 1 or more; none is also a choice"),
    ],
)
def test_a_refusal_says_what_is_allowed(allowed, value, told):
    assert value not in allowed
    assert allowed.told(value) == told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"takes": "2"}, "--takes '2': give a whole number"),
        ({"takes": [2]}, "--takes [2]: give a whole number"),
        ({"takes": None}, "--takes None: give a whole number"),
        ({"seed": 1.5}, "--seed 1.5: give a whole number"),
        ({"seed": True}, "--seed True: give a whole number"),
        ({"bpm": "120"}, "--bpm '120': give a number"),
        ({"guard": "no"}, "--guard 'no': give true or false"),
        ({"harmony": 3}, "--harmony 3: choose from free, guided, strict"),
        ({"key": 5}, "--key 5: give a text"),
        ({"bars": [8]}, "--bars [8]: give a whole number or a text"),
        ({"bars": 0}, "--bars 0: give 1 to 2000"),
        ({"prompt": 5}, "--prompt 5: give a Score or the path of a file or a text"),
    ],
)
def test_python_says_what_the_type_says(given, told):
    with pytest.raises(InputError, match=f"^{re.escape(told)}$"):
        check(GenerateSettings(**given))


def test_what_stands_for_the_type_is_taken(tmp_path):
    check(GenerateSettings(seed=np.int64(7), bpm=np.float32(90), parts=["melody"], prompt=tmp_path, bars="9-12"))
    check(TrainSettings(base=tmp_path, learning_rate=1))


def test_text_is_no_number_whatever_the_type_is_called():
    for name in ("seed", "lora_dropout", "batch_size"):
        with pytest.raises(InputError, match=f"--train-args: {name} is 'some'; give a number"):
            read_fields((f"{name}=some",), TrainSettings, "--train-args")
