"""What to doubt in a result, as lines of text: the fact and what to do about it."""

from __future__ import annotations

from edgellm.profiles.report.words import caveat_words, say
from edgellm.profiles.result.result import Report
from edgellm.terminal import visible

#: Lines where room is short; the rest is counted.
FEW = 3


def doubts(report: Report, lang: str, most: int | None = None) -> list[str]:
    """A line for each caveat; after the first `most`, how many more there are."""
    found = []
    for caveat in report.caveats[:most]:
        fact, advice = caveat_words(caveat, lang)
        found.append(visible(f"{caveat.subject + ': ' if caveat.subject else ''}{fact}; {advice}"))
    if (more := len(report.caveats) - len(found)) > 0:
        found.append(say("doubts_more", lang, n=more))
    return found
