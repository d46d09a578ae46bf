"""What a report's tables and plots call the runs of one model: by what differs among them, as the flags spell it."""

from dataclasses import replace

import profile_samples as samples

from edgellm.profiles.report.figures import line
from edgellm.profiles.report.page import runs
from edgellm.profiles.result.settings import Settings, Workload


def test_differences_are_named_as_their_flags_are():
    """-ngl, -fa, -ctk, --no-mmap, --no-repack, -p, -n, -d, -b; nothing that is the same in all."""
    plain = Settings("llamacpp", 4, n_gpu_layers=0, type_k="f16", type_v="f16", use_mmap=True, repack=True)
    other = Settings("llamacpp", 4, "auto", "on", "q8_0", "f16", n_gpu_layers=3, use_mmap=False, repack=False)
    work = Workload(n_prompt=512, n_gen=128, n_batch=512)
    runs = [
        samples.run("a", settings=plain, workload=work),
        samples.run("a", settings=other, workload=replace(work, n_prompt=7, n_gen=5, n_depth=64, n_batch=8)),
        samples.run("b", settings=plain, workload=work),
    ]
    first, second, _ = (each.label for each in line.lines(runs, "en"))
    assert first == "a · ngl 0 · fa auto · kv f16/f16 · mmap · repack · p512 · n128 · d0 · b512"
    assert second == "a · ngl 3 · fa on · kv q8_0/f16 · no mmap · no repack · p7 · n5 · d64 · b8"
    assert [each.second for each in line.lines(runs, "en")] == [False, True, False]
    assert line.lines(runs[2:], "en")[0].label == "b"


def test_the_spread_stands_below_a_figure_that_has_one():
    """Student's t of three launches is 4.303; of what is 10 ms apart the mean is known to 4.303 * 10 / sqrt 3 ms."""
    alike = [samples.launch(i, prefill_ms=(100.0,) * 3, gap_ms=(10.0,) * 3) for i in range(3)]
    apart = [
        samples.launch(i, prefill_ms=(ms,) * 3, gap_ms=(10.0,) * 3)
        for i, ms in enumerate((90.0, 100.0, 110.0))
    ]
    spreads = []
    for launches in (alike, apart):
        report = samples.report(samples.run("a", launches=tuple(launches)))
        (card,) = runs.all_runs(report, line.lines(report.runs, "en"), "en").cards
        assert card.table is not None
        head = [cell.text for cell in card.table.head]
        row = dict(zip(head, card.table.rows[0], strict=True))
        spreads.append({name: cell.small for name, cell in row.items() if cell.small})
    assert spreads[0] == {"load": "48.5–53.5"}
    assert spreads[1].keys() == {"load", "prefill", "prefill, text", "time to first token"}
    assert spreads[1]["time to first token"] == "77–127"
