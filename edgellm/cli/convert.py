"""`edgellm convert`: a checkpoint becomes one verified file that runs here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.shared.model_argument import hub_option
from edgellm.cli.shared.threads import THREADS
from edgellm.errors import CheckFailedError, UsageError
from edgellm.terminal import aligned, note, say
from edgellm.units import format_seconds, format_size, parse_size

if TYPE_CHECKING:
    from edgellm.catalog.conversion import Converted
    from edgellm.convert.gguf.convert import ConvertRequest, Preview


class _Size(click.ParamType[int]):
    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return value if isinstance(value, int) else parse_size(str(value))


@click.command(short_help="Convert a checkpoint to one verified file that runs here.")
@click.argument("sources", metavar="SRC...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    "--outfile",
    type=click.Path(path_type=Path),
    help="File to write, or a folder for it; for several types a folder.",
)
@click.option(
    "-q",
    "--quant",
    "--outtype",
    metavar="TYPE,...",
    help="Q4_K_M (default), auto (what edgellm recommend says), Q8_0, Q4_0, ..., onnx-int4, onnx-int8, onnx-w8a8, "
    "onnx-fp32; several: Q4_K_M,Q8_0.",
)
@click.option(
    "--recipe",
    metavar="FILE",
    callback=lambda ctx, param, value: (
        str(Path(value).resolve()) if value and Path(value).is_file() else value
    ),
    help="Types by role and depth, from a file or by name, in place of --quant.",
)
@click.option("--onnx", multiple=True, metavar="KEY=VALUE", help="Refine an ONNX type, e.g. block=128.")
@click.option(
    "--exporter",
    type=click.Choice(["direct", "optimum"]),
    default="direct",
    help="What writes an ONNX type; optimum knows more architectures and needs edgellm[optimum].",
)
@click.option(
    "--lora",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Merge a PEFT LoRA adapter into the model.",
)
@click.option("--no-lora", is_flag=True, help="Leave out the adapter that lies beside the model.")
@click.option(
    "--lora-gguf", is_flag=True, help="Convert the adapter alone, for --lora of run and chat: F32 or F16."
)
@click.option("--imatrix", type=click.Path(path_type=Path), help="Importance matrix, from edgellm calibrate.")
@click.option(
    "--tensor-type", multiple=True, metavar="PATTERN=TYPE", help="Type of the tensors a pattern is found in."
)
@click.option("--output-tensor-type", metavar="TYPE", help="Type of the output projection.")
@click.option("--token-embedding-type", metavar="TYPE", help="Type of the token embedding.")
@click.option("--pure", is_flag=True, help="Every matrix in TYPE, without the recipe's exceptions.")
@click.option("--max-ram", type=_Size(), help="Memory the conversion may take, e.g. 300M.")
@click.option("--split-max-size", type=_Size(), help="Write several files of at most this size.")
@click.option("-t", "--threads", type=THREADS, help="Threads that quantize.")
@click.option("--no-verify", is_flag=True, help="Do not check the result against the source.")
@click.option("--keep-unverified", is_flag=True, help="Keep a file that failed its checks; still exits 3.")
@click.option("--allow-requantize", is_flag=True, help="Accept a source that is quantized already.")
@click.option("--dry-run", is_flag=True, help="Show tensors and sizes; write nothing.")
@click.option("-f", "--force", is_flag=True, help="Replace a file that is there.")
@click.option("--offline", is_flag=True, help="Use what is on this machine; download nothing.")
@click.option(
    "--ray",
    "ray_address",
    metavar="auto|ADDRESS",
    help="Spread several SRCs over a Ray cluster, whose nodes see them and -o at the same paths.",
)
@hub_option
def command(
    sources: tuple[str, ...],
    ray_address: str | None,
    dry_run: bool,
    no_verify: bool,
    keep_unverified: bool,
    **options: Any,
) -> int:
    """Convert each SRC: a checkpoint folder, a bundled name, a hub id, or a GGUF file in F32, F16 or BF16.

    The result is checked against SRC - tensors, tokens, chat template, logits - before it gets its name.

    \b
      edgellm convert tiny-qwen3
      edgellm convert ./Qwen2.5-0.5B-Instruct --quant q8_0 -o qwen.gguf
      edgellm convert ./Qwen2.5-0.5B-Instruct --quant onnx-int4 -o qwen-onnx
      edgellm convert ./Qwen2.5-0.5B-Instruct --quant Q4_K_M,Q8_0,onnx-int4 -o models
      edgellm convert ./Qwen2.5-0.5B-Instruct --recipe mine.toml --imatrix imatrix.gguf
      edgellm convert ./Qwen2.5-0.5B-Instruct --lora ./my-adapter
      edgellm convert /srv/models/* --quant Q4_K_M,Q8_0 -o /srv/gguf --ray 192.168.1.10:6379
    """
    if ray_address is None and len(sources) == 1:
        return _convert(sources[0], dry_run, no_verify, keep_unverified, options)
    if options["lora"] or options["lora_gguf"] or dry_run or options["exporter"] != "direct":
        raise UsageError("--lora, --lora-gguf, --dry-run and --exporter are for one SRC, on this machine")
    folder = _folder(options["output"] or Path(), make=True)
    assert folder is not None
    if ray_address is not None:
        from edgellm.cli.nodes import converting

        flags = {"no_verify": no_verify, "keep_unverified": keep_unverified}
        words = _as_words(options | {"output": None} | flags)
        converting.command(ray_address, converting.existing(sources), folder.resolve(), words)
        return 0
    for source in sources:
        _convert(source, False, no_verify, keep_unverified, options | {"output": folder})
    return 0


def _as_words(options: dict[str, Any]) -> list[str]:
    """The options as they are typed."""
    words: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif isinstance(value, tuple):
            words += [word for each in value for word in (flag, str(each))]
        elif value is not None and value is not False and name != "exporter":
            words += [flag, str(value.resolve() if isinstance(value, Path) else value)]
    return words


def _convert(
    source: str, dry_run: bool, no_verify: bool, keep_unverified: bool, options: dict[str, Any]
) -> int:
    from edgellm.cli.shared import convert_onnx

    if options["lora"] and options["no_lora"]:
        raise UsageError("--lora and --no-lora exclude each other: give one")
    if options.pop("lora_gguf"):
        return _convert_adapter(source, options, verify=not no_verify)
    _settle_types(source, options)
    gguf, onnx = _types(options["quant"])
    if not onnx and (options["onnx"] or options["exporter"] != "direct"):
        raise UsageError(
            "--onnx and --exporter refine ONNX types; choose one with --quant, e.g. --quant onnx-int4"
        )
    alone = len(gguf) + len(onnx) == 1
    if not alone:
        options["output"] = _folder(options["output"], make=not dry_run)
    how = {"verify": not no_verify, "keep_unverified": keep_unverified}
    failures = _convert_gguf(source, options, gguf, how, dry_run=dry_run, alone=alone) if gguf else []
    for name in onnx:
        own = convert_onnx.without_gguf_options(options) if gguf else options
        try:
            convert_onnx.command(source, own | {"quant": name}, dry_run=dry_run, alone=alone, **how)
        except CheckFailedError as failure:
            failures.append(failure)
    for other in failures[1:]:
        note(str(other))
    if failures:
        raise failures[0]
    return 0


def _settle_types(source: str, options: dict[str, Any]) -> None:
    """What `auto` and a recipe stand for. Raises EdgellmError."""
    if (options["quant"] or "").lower() == "auto":
        options["quant"] = _recommended(source, offline=options["offline"])
    if options["recipe"]:
        _take_recipe(options)


def _recommended(source: str, *, offline: bool) -> str | None:
    """What `edgellm recommend` says, kernels timed where they are not known."""
    from edgellm.catalog import choosing
    from edgellm.terminal import Progress

    with Progress() as progress:
        return choosing.recommended(source, offline=offline, tell=lambda text: progress.show(f"once: {text}"))


def _take_recipe(options: dict[str, Any]) -> None:
    """Put the recipe in the place of its name, its base in that of the type. Raises UsageError, ArtifactError."""
    from edgellm.convert.recipes import recipe

    if options["quant"]:
        raise UsageError("--recipe says every type, so --quant has no meaning beside it: give one of them")
    found = recipe.load(options["recipe"])
    if found.imatrix and not options["imatrix"]:
        note(f"recipe {found.name} was found with an importance matrix; give one with --imatrix")
    options |= {"recipe": found, "quant": found.base}


def _types(quant: str | None) -> tuple[list[str | None], list[str]]:
    """The types asked for, GGUF's and ONNX's apart; None is the usual one. Raises UsageError."""
    from edgellm.convert.onnx import is_onnx

    names = [name.strip() for name in (quant or "").split(",")]
    if quant and not all(names):
        raise UsageError(f"--quant {quant}: a type is missing between the commas")
    onnx = [name for name in names if is_onnx(name)]
    return [name or None for name in names if not is_onnx(name)], onnx


def _folder(output: Path | None, *, make: bool) -> Path | None:
    """Where several outputs go by their conventional names. Raises UsageError, StorageError."""
    from edgellm import files

    if output is None or output.is_dir():
        return output
    if output.exists() or output.suffix.lower() == ".gguf":
        raise UsageError(f"several types do not fit in one file: {output} is no folder; give -o a folder")
    if not make:
        return None
    with files.storage_errors(output):
        output.mkdir()
    return output


def _convert_gguf(
    source: str,
    options: dict[str, Any],
    types: Sequence[str | None],
    how: dict[str, bool],
    *,
    dry_run: bool,
    alone: bool,
) -> list[CheckFailedError]:
    """One reading of the source, a file of each type; what failed its proof."""
    from edgellm.catalog import conversion
    from edgellm.convert.gguf.convert import preview

    first = _request(source, options | {"quant": types[0]})
    requests = [first, *(replace(first, quant=name or first.quant) for name in types[1:])]
    if dry_run:
        for request in requests:
            _print_preview(preview(request), tensors=alone)
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


def _convert_adapter(source: str, options: dict[str, Any], *, verify: bool) -> int:
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
    from edgellm.formats.gguf.reader import read_header

    header = read_header(done.artifact.path)
    paths = header.shard_paths()
    size = sum(path.stat().st_size for path in paths)
    n_weights = sum(_n_weights(path) for path in paths)
    files = f"{done.artifact.path}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    say(
        f"{files}: {done.artifact.quantization}, {format_size(size)}, {8 * size / n_weights:.2f} bits per weight, "
        f"in {format_seconds(done.seconds)}"
    )
    if done.verdict:
        say(f"verified: {done.verdict}")
    elif done.failure is None:
        say("not verified (--no-verify)")


def _n_weights(path: Path) -> int:
    from math import prod

    from edgellm.formats.gguf.reader import read_header

    return sum(prod(tensor.shape) for tensor in read_header(path).tensors.values())
