"""Converting to GGUF files on the command line: options checked, the result told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.errors import CheckFailedError, UsageError
from edgellm.terminal import aligned, note, say
from edgellm.units import format_seconds, format_size

if TYPE_CHECKING:
    from edgellm.catalog.conversion import Converted
    from edgellm.convert.gguf.convert import ConvertRequest, Preview


def convert(
    source: str,
    options: dict[str, Any],
    types: Sequence[str | None],
    how: dict[str, bool],
    *,
    dry_run: bool,
) -> list[CheckFailedError]:
    """One reading of the source, a file of each type; what failed its proof."""
    from edgellm.catalog import conversion
    from edgellm.convert.gguf.convert import preview

    first = _request(source, options | {"quant": types[0]})
    requests = [first, *(replace(first, quant=name or first.quant) for name in types[1:])]
    if dry_run:
        for request in requests:
            _print_preview(preview(request), tensors=options["tensors"])
        return []
    failures = []
    for done in conversion.run_all(requests, **how):
        if isinstance(done, CheckFailedError):
            failures.append(done)
            continue
        _print_result(done)
        if done.failure:
            failures.append(done.failure)
    return failures


def convert_adapter(source: str, options: dict[str, Any], *, verify: bool) -> int:
    """An adapter, SRC itself or --lora beside SRC, becomes a GGUF file of its own."""
    from edgellm.catalog import conversion, models
    from edgellm.convert.gguf.adapter import AdapterRequest

    output = options["output"]
    adapter = conversion.adapter_folder(options["lora"] or Path(source), offline=options["offline"])
    if options["lora"]:
        base = models.checkpoint_folder(source, offline=options["offline"])
    else:
        base = conversion.base_of(adapter).path
    if output is None or output.is_dir():
        output = (output or Path()) / f"{adapter.resolve().name}.gguf"
    quant = (options["quant"] or "F32").upper()
    request = AdapterRequest(adapter, base, output, quant, force=options["force"])
    path = conversion.run_adapter(request, verify=verify)
    click.echo(f"{path}: adapter for {base}, {quant}, {format_size(path.stat().st_size)}")
    return 0


def _request(source: str, options: dict[str, Any]) -> ConvertRequest:
    """The options as one checked value. Raises UsageError and what locating the source raises."""
    quant = options["quant"]
    from edgellm.catalog import conversion, models
    from edgellm.convert.gguf.convert import ConvertRequest

    found, lora = conversion.with_base(source, options["lora"], offline=options["offline"])
    return ConvertRequest(
        source=found.path,
        quant=quant or found.quant or models.DEFAULT_TYPE,
        output=options["output"],
        pure=options["pure"],
        output_type=options["output_tensor_type"],
        token_embd_type=options["token_embedding_type"],
        tensor_types=tuple(_tensor_type(text) for text in options["tensor_type"]),
        recipe=options["recipe"],
        imatrix=options["imatrix"],
        max_ram=options["max_ram"],
        n_threads=options["threads"],
        split_max_bytes=options["split_max_size"],
        allow_requantize=options["allow_requantize"],
        lora=lora,
        ignore_adapter=options["no_lora"],
        force=options["force"],
    )


def _tensor_type(text: str) -> tuple[str, str]:
    pattern, equals, type_ = text.rpartition("=")
    if not equals or not pattern or not type_:
        raise UsageError(f"--tensor-type {text!r} is not PATTERN=TYPE, e.g. ffn_down=Q6_K")
    return pattern, type_


def _print_preview(found: Preview, *, tensors: bool) -> None:
    plan = found.plan
    rows = [
        (
            tensor.name,
            "x".join(map(str, tensor.shape)),
            tensor.type.name,
            format_size(tensor.nbytes),
            f"(rows do not fit {tensor.wanted.name})" if tensor.wanted else "",
        )
        for tensor in plan.tensors
    ]
    for remark in found.remarks:
        note(remark)
    say(
        *aligned(rows if tensors else [], "<><><"), *(f"{path}: {size:,} bytes" for path, size in found.files)
    )
    say(
        f"{len(plan.tensors)} tensors, {plan.n_weights / 1e6:.1f}M weights, "
        f"{format_size(found.total_bytes)}, {plan.bits_per_weight:.2f} bits per weight"
    )


def _print_result(done: Converted) -> None:
    from edgellm.formats.gguf.header import bits_per_weight
    from edgellm.formats.gguf.reader import read_header

    paths = read_header(done.artifact.path).shard_paths()
    n_bytes = sum(path.stat().st_size for path in paths)
    bits = bits_per_weight(tensor for path in paths for tensor in read_header(path).tensors.values())
    assert bits is not None  # nothing without weights is converted
    files = f"{done.artifact.path}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    say(
        f"{files}: {done.artifact.quantization}, {format_size(n_bytes)}, {bits:.2f} bits per weight, "
        f"in {format_seconds(done.seconds)}"
    )
    if done.verdict:
        say(f"verified: {done.verdict}")
    elif done.failure is None:
        say("not verified (--no-verify)")
