"""The settings table: every row can be read, set and shown, and refuses what makes no sense."""

import pytest

from edgellm.chat import settings
from edgellm.chat.settings import PARAMETERS
from edgellm.errors import UsageError
from edgellm.generation.generate import GenerateOptions

GOOD = {
    "seed": "42",
    "n-predict": "7",
    "top-k": "5",
    "repeat-last-n": "9",
    "stop": "END",
    "top-p": "0.5",
    "min-p": "0.5",
}


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda p: p.name)
def test_every_setting_goes_in_and_comes_out(parameter):
    value = parameter.parse(GOOD.get(parameter.name, "0.25"))
    assert value != parameter.default
    options = settings.put(GenerateOptions(), parameter, value)
    assert settings.get(options, parameter) == value
    assert options != GenerateOptions()
    assert settings.find(parameter.name) is settings.find(parameter.field) is parameter


@pytest.mark.parametrize("parameter", PARAMETERS[:-1], ids=lambda p: p.name)
@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "-5", "many", ""])
def test_nonsense_is_refused_by_name_and_value(parameter, text):
    with pytest.raises(UsageError, match=rf"{parameter.name} cannot be '{text}': give a .*number"):
        parameter.parse(text)


@pytest.mark.parametrize("name", ["temp", "temperature", "TEMP", "--temp"])
def test_settings_are_found_under_the_names_people_know(name):
    assert settings.find(name).field == "temperature"


def test_an_unknown_setting_lists_what_there_is():
    with pytest.raises(UsageError, match="no setting 'warmth'; there are: temp, top-k"):
        settings.find("warmth")


@pytest.mark.parametrize("word", ["none", "-1", "None"])
def test_seed_and_limit_can_be_taken_away(word):
    assert settings.find("seed").parse(word) is None
    assert settings.find("n").parse(word) is None


def test_stop_strings_keep_their_script_and_know_newlines():
    assert settings.find("stop").parse(r"结束\n") == ("结束\n",)
    assert settings.show(("\n",)) == r"'\n'"
