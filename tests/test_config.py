"""Settings: what their types allow is all that is taken, and a refusal says what to give instead."""

import dataclasses
import math
import re

import pytest

from woodshed import config
from woodshed.audio.ace import estimate, generate, prepare
from woodshed.audio.ace import settings as ace
from woodshed.audio.codec_check import CheckSettings
from woodshed.audio.codecs._settings import CodecSettings
from woodshed.audio.gan import settings as gan
from woodshed.audio.labels.annotate import AnnotateSettings
from woodshed.config import Allowed, read_fields, rules
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
    for name, rule in rules(type(settings)).items():
        for value in outside(rule):
            told = re.escape(f"{config.flag(name)} {value}: ") + "(give|choose from) "
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
    with pytest.raises(InputError, match=f"^--batch-size {value}: {told}$"):
        allowed.refuse("batch_size", value)


def test_text_is_no_number_whatever_the_type_is_called():
    for name in ("seed", "lora_dropout", "batch_size"):
        with pytest.raises(InputError, match=f"--train-args: {name} is 'some'; give a number"):
            read_fields((f"{name}=some",), TrainSettings, "--train-args")
