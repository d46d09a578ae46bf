"""`edgellm calibrate`: an importance matrix of a model, for `edgellm convert --imatrix` and llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgellm.cli.shared.lines import text_file_option
from edgellm.cli.shared.model_argument import hub_option
from edgellm.cli.shared.sampling import device_options
from edgellm.errors import UsageError
from edgellm.terminal import Progress, note, say
from edgellm.units import count

if TYPE_CHECKING:
    from edgellm.calibration import Calibration
    from edgellm.calibration.store import Job
    from edgellm.formats.artifact import Artifact
    from edgellm.generation.scoring import Chunk
    from edgellm.session import EngineOptions

#: Types whose activations are as good as the original's for this purpose.
_FAITHFUL = ("F32", "F16", "BF16", "Q8_0")
_COUNT = click.IntRange(min=1)


@click.command(short_help="Make an importance matrix, for better low-bit conversions.")
@click.argument("model")
@text_file_option("calibrate on", "English, Chinese, code and dialogue")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("imatrix.gguf"),
    show_default=True,
    help="File to write.",
)
@click.option(
    "-c", "--ctx-size", "n_ctx", type=click.IntRange(min=32), default=512, help="Tokens of a chunk.  [512]"
)
@click.option("--chunks", "n_chunks", type=_COUNT, help="Chunks to run.  [default: the whole text]")
@click.option("--process-output", is_flag=True, help="Collect for the output matrix too.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted run stopped.")
@click.option(
    "--save-every", type=_COUNT, default=10, help="Chunks between saves of an unfinished run.  [10]"
)
@click.option("-t", "--threads", "n_threads", type=_COUNT, help="Threads.  [default: physical cores]")
@hub_option
@device_options
@click.option("--force", is_flag=True, help="Replace an output that is there.")
def command(
    model: str,
    text_file: Path | None,
    output: Path,
    n_ctx: int,
    n_chunks: int | None,
    process_output: bool,
    resume: bool,
    save_every: int,
    n_threads: int | None,
    n_gpu_layers: int | None,
    device: str,
    force: bool,
) -> None:
    """Run MODEL over a text and write which columns of its weights matter most, in llama.cpp's imatrix format.

    \b
      edgellm calibrate my-model-F16.gguf -o imatrix.gguf
      edgellm convert my-model --quant IQ3_XXS --imatrix imatrix.gguf
    """
    from edgellm import files
    from edgellm.calibration import store, text
    from edgellm.cli.shared import model_argument
    from edgellm.machine import devices
    from edgellm.session import EngineOptions

    files.check_output(output, force=force)
    if devices.servers(device):
        raise UsageError(
            "calibrate looks into every layer, which it can on one machine alone; leave --device out"
        )
    artifact = model_argument.resolve(model)
    _check(artifact)
    engine = EngineOptions(n_ctx=n_ctx, n_threads=n_threads, n_gpu_layers=n_gpu_layers, device=device)
    chunks = _chunks(artifact, engine, text_file, n_ctx)[:n_chunks]
    dataset = text_file.name if text_file else text.NAME
    job = store.Job(artifact, chunks, dataset, output, engine, process_output, resume, save_every, force)
    _show(_run(job), job)


def _check(artifact: Artifact) -> None:
    if artifact.format != "gguf":
        raise UsageError(
            f"{artifact.path} is no GGUF model; calibrate one made with edgellm convert --quant F16"
        )
    if artifact.foreign:
        raise UsageError(
            f"{artifact.path} is outside the verified families, and importance matrices are for conversions, which "
            "stay with them"
        )
    if artifact.quantization not in _FAITHFUL:
        note(
            f"{artifact.path} is {artifact.quantization}: its activations differ from the original's; "
            f"an F16 or Q8_0 model gives a better matrix"
        )


def _chunks(artifact: Artifact, engine: EngineOptions, text_file: Path | None, n_ctx: int) -> list[Chunk]:
    """The text as this model's tokens; dialogues of our own text go through its chat template."""
    from edgellm.calibration import text
    from edgellm.cli.shared import open_model
    from edgellm.generation import scoring

    render: text.Render | None = None
    if artifact.chat_template:
        template = open_model.template(artifact)
        render = lambda messages: template.render(messages, add_generation_prompt=False)  # noqa: E731
    with open_model.session(artifact, engine) as session:
        if text_file:
            return scoring.text_chunks(
                session, text_file.read_text(encoding="utf-8", errors="replace"), n_ctx
            )
        return scoring.text_chunks(session, text.text(render=render), n_ctx, special=render is not None)


def _run(job: Job) -> Calibration:
    """Run with a progress bar; an interrupt says how to go on."""
    from edgellm.calibration import store

    try:
        with Progress() as progress:
            return store.run(
                job, lambda state: progress.count("calibrating", state.n_chunks, len(job.chunks))
            )
    except KeyboardInterrupt:
        if store.partial_path(job.output).exists():
            note("stopped; the same command with --resume goes on from here")
        raise


def _show(state: Calibration, job: Job) -> None:
    n_counts = sum(len(counts) for _, counts in state.sums.values())
    unseen = sum(int((counts == 0).sum()) for _, counts in state.sums.values())
    n_tokens = sum(len(chunk.tokens) for chunk in job.chunks)
    say(
        f"{job.output}: {len(state.sums)} matrices, {count(state.n_chunks, 'chunk')}, {n_tokens:,} tokens of "
        f"{job.dataset}",
        f"PPL = {state.perplexity:.4f} ± {state.perplexity_error:.4f} over {state.n_scored:,} tokens",
    )
    if unseen:
        note(f"{unseen} of {n_counts} experts saw no token and count as unweighted; a longer text helps")
