"""What the sentences state is possible: dates are dates, prices are prices, each language keeps to its own words."""

import calendar
import datetime
import re

from edgellm.calibration import text

WHOLE = text.text(400_000)


def test_dates_exist():
    """A leap year is the widest: what no calendar knows raises ValueError."""
    chinese = re.findall(r"(\d+)月(\d+)日", WHOLE)
    english = re.findall(r"On (\d+) (\S+) (\d+), ", WHOLE)
    assert len(chinese) > 20 and len(english) > 20
    assert all(datetime.date(2024, int(month), int(day)) for month, day in chinese)
    assert all(datetime.datetime.strptime(" ".join(each), "%d %B %Y") for each in english)
    assert {int(month) for month, _ in chinese} == set(range(1, 13))
    assert {month for _, month, _ in english} == set(calendar.month_name[1:])


def test_figures_are_plausible():
    prices = re.findall(r"costs \$([\d,]+)\.(\d+) more", WHOLE)
    assert prices and all(
        len(cents) == 2 and 1 <= int(whole.replace(",", "")) <= 900 for whole, cents in prices
    )
    shares = [int(n) for n in re.findall(r"百分之(\d+)", WHOLE)]
    assert shares and min(shares) >= 1 and max(shares) <= 99
    years = [int(n) for n in re.findall(r"(\d+)年", WHOLE)]
    assert years and min(years) >= 1480 and max(years) <= 2025


def test_no_chinese_sentence_holds_an_english_name_and_none_the_other_way_round():
    for paragraph in WHOLE.split("\n\n"):
        for sentence in re.findall(r"(?m)^(?!User|Assistant)[^。\n]*。", paragraph):
            assert not re.search(r"[A-Z][a-z]{3,}", sentence), sentence
        for sentence in re.findall(r"(?:^|(?<=\. ))On \d+ [^.]*\.", paragraph):
            assert not re.search(r"[\u4e00-\u9fff]", sentence), sentence
