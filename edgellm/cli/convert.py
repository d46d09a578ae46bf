"""`edgellm convert`: a checkpoint becomes one verified file that runs here."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from edgellm.cli.fit import size
from edgellm.cli.shared.model_argument import hub_option
from edgellm.cli.shared.threads import THREADS
from edgellm.errors import CheckFailedError, EdgellmError, UsageError
from edgellm.terminal import note

#: Options that make of a type what its row in the table is not.
_REFINING = (
    "recipe",
    "onnx",
    "lora",
    "imatrix",
    "tensor_type",
    "output_tensor_type",
    "token_embedding_type",
    "pure",
)


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
    help="Q4_K_M, Q8_0, Q4_0, ..., onnx-int4, onnx-int8, onnx-w8a8, onnx-fp32; auto is what edgellm recommend says; "
    "several: Q4_K_M,Q8_0. Without it the types are shown, and which to take.",
)
@click.option(
    "--fit",
    "ram",
    callback=size,
    metavar="SIZE",
    help="In place of --quant: the best type that runs in this memory, e.g. 500M.",
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
@click.option("--max-ram", callback=size, metavar="SIZE", help="Memory the conversion may take, e.g. 300M.")
@click.option(
    "--split-max-size", callback=size, metavar="SIZE", help="Write several files of at most this size."
)
@click.option("-t", "--threads", type=THREADS, help="Threads that quantize.")
@click.option("--no-verify", is_flag=True, help="Do not check the result against the source.")
@click.option("--keep-unverified", is_flag=True, help="Keep a file that failed its checks; still exits 3.")
@click.option("--allow-requantize", is_flag=True, help="Accept a source that is quantized already.")
@click.option("--dry-run", is_flag=True, help="Show types and sizes; write nothing.")
@click.option("--tensors", is_flag=True, help="With --dry-run: every tensor's shape, type and size, too.")
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

    Without a type and an output, one SRC's types are shown with size, memory, loss and speed, and nothing is written.

    The result is checked against SRC - tensors, tokens, chat template, logits - before it gets its name.

    \b
      edgellm convert ./Qwen2.5-0.5B-Instruct
      edgellm convert ./Qwen2.5-0.5B-Instruct --fit 500M
      edgellm convert ./Qwen2.5-0.5B-Instruct --quant q8_0 -o qwen.gguf
      edgellm convert ./Qwen2.5-0.5B-Instruct --quant onnx-int4 -o qwen-onnx
      edgellm convert ./Qwen2.5-0.5B-Instruct --quant Q4_K_M,Q8_0,onnx-int4 -o models
      edgellm convert ./Qwen2.5-0.5B-Instruct --recipe mine.toml --imatrix imatrix.gguf
      edgellm convert ./Qwen2.5-0.5B-Instruct --lora ./my-adapter
      edgellm convert /srv/models/* --quant Q4_K_M,Q8_0 -o /srv/gguf --ray 192.168.1.10:6379
    """
    if ray_address is None and len(sources) == 1:
        return _convert(sources[0], dry_run, no_verify, keep_unverified, options)
    if (
        options["lora"]
        or options["lora_gguf"]
        or dry_run
        or options["exporter"] != "direct"
        or options["ram"]
    ):
        raise UsageError(
            "--lora, --lora-gguf, --dry-run, --fit and --exporter are for one SRC, on this machine"
        )
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
    from edgellm.cli import fit
    from edgellm.cli.conversion import gguf as to_gguf

    if options["lora"] and options["no_lora"]:
        raise UsageError("--lora and --no-lora exclude each other: give one")
    if options.pop("lora_gguf"):
        return to_gguf.convert_adapter(source, options, verify=not no_verify)
    if options["tensors"] and not dry_run:
        raise UsageError("--tensors lists what --dry-run would write: give both")
    if _is_open(source, options, dry_run=dry_run):
        fit.offer(source, None, offline=options["offline"])
        return 0
    _settle_types(source, options)
    how = {"verify": not no_verify, "keep_unverified": keep_unverified}
    failures = _each(source, options, how, dry_run=dry_run)
    if dry_run and _has_row(source, options):
        with contextlib.suppress(EdgellmError):  # where no figures can be foretold, there is no table
            fit.offer(source, options["quant"], offline=options["offline"])
    for other in failures[1:]:
        note(str(other))
    if failures:
        raise failures[0]
    return 0


def _each(
    source: str, options: dict[str, Any], how: dict[str, bool], *, dry_run: bool
) -> list[CheckFailedError]:
    """Convert to every type, or tell what that would write; what failed its proof. Raises EdgellmError."""
    from edgellm.cli.conversion import gguf as to_gguf
    from edgellm.cli.conversion import onnx as to_onnx

    gguf, onnx = _types(options["quant"])
    if not onnx and (options["onnx"] or options["exporter"] != "direct"):
        raise UsageError(
            "--onnx and --exporter refine ONNX types; choose one with --quant, e.g. --quant onnx-int4"
        )
    if len(gguf) + len(onnx) > 1:
        options["output"] = _folder(options["output"], make=not dry_run)
    failures = to_gguf.convert(source, options, gguf, how, dry_run=dry_run) if gguf else []
    for name in onnx:
        own = to_onnx.without_gguf_options(options) if gguf else options
        try:
            to_onnx.command(source, own | {"quant": name}, dry_run=dry_run, **how)
        except CheckFailedError as failure:
            failures.append(failure)
    return failures


def _is_open(source: str, options: dict[str, Any], *, dry_run: bool) -> bool:
    """Whether nothing says which type is wanted, and no output is asked for: the types are shown then.

    A hub's model is not fetched for that.
    """
    from edgellm.catalog import models, spellings
    from edgellm.convert.checkpoint import adapter

    if any(options[name] for name in ("quant", "ram", *_REFINING)) or (options["output"] and not dry_run):
        return False
    if Path(source).exists():
        found = models.locate(source, offline=True)
        return found.is_checkpoint and not adapter.is_adapter(found.path)
    reference = spellings.read(source)
    return not reference.wanted if reference else ":" not in source


def _has_row(source: str, options: dict[str, Any]) -> bool:
    """Whether the table of types speaks of the very files that would be written."""
    from edgellm.catalog import models

    plain = options["quant"] and not any(options[name] for name in _REFINING)
    return bool(plain) and models.locate(source, offline=options["offline"]).is_checkpoint


def _settle_types(source: str, options: dict[str, Any]) -> None:
    """What `auto`, a size and a recipe stand for. Raises EdgellmError."""
    from edgellm.catalog import choosing
    from edgellm.terminal import Progress

    ram, offline = options.pop("ram"), options["offline"]
    if ram and options["quant"]:
        raise UsageError("--fit chooses the type, so --quant has no meaning beside it: give one of them")
    if ram:
        options["quant"] = choosing.fitting(source, ram, offline=offline)
    elif (options["quant"] or "").lower() == "auto":
        with Progress() as progress:
            options["quant"] = choosing.recommended(
                source, offline=offline, tell=lambda text: progress.show(f"once: {text}")
            )
    if options["recipe"]:
        _take_recipe(options)


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
