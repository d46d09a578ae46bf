"""MODEL as something to be foretold: whatever it names, by headers alone. No weights are fetched.

Of a hub's checkpoint config.json is fetched and, by HTTP ranges, the headers of its safetensors, where it is not on
this machine already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm import privacy
from edgellm.catalog import hubs, models, spellings
from edgellm.errors import CheckpointError, EdgellmError, UsageError, option

if TYPE_CHECKING:
    from edgellm.catalog.spellings import Reference
    from edgellm.fit.model import Subject


def open_subject(model: str, types: Sequence[str], *, offline: bool = False) -> Subject:
    """What `types` would make of the model, or the one that a converted model has. Raises EdgellmError."""
    from edgellm.fit import builds
    from edgellm.formats.artifact import Artifact

    found = _located(model)
    if found is None:
        return _of_hub(model, types, offline=offline)
    if not found.is_checkpoint:
        return builds.of_artifact(Artifact.open(found.path))
    if builds.has_weights(found.path):
        return builds.of_checkpoint(found.path, found.name, types)
    config, shapes = builds.read_config(found.path)
    return _of_config(config, shapes, found.name, types)


def is_here(model: str) -> bool:
    """Whether the weights that `model` names are on this machine."""
    found = _located(model)
    return found is not None and (not found.is_checkpoint or any(found.path.glob("*.safetensors")))


def _located(model: str) -> models.Source | None:
    """What is on this machine; None for a hub's model that is not."""
    if Path(model).exists() or spellings.read(model) is None:
        return models.locate(model, offline=True)
    try:
        found = models.locate(model, offline=True)
    except EdgellmError:
        return None
    has_weights = not found.is_checkpoint or any(found.path.glob("*.safetensors"))
    return found if has_weights else None


def _of_hub(model: str, types: Sequence[str], *, offline: bool) -> Subject:
    reference = spellings.read(model)
    assert reference is not None
    if offline:
        raise CheckpointError(f"{model} is not on this machine; run it again without {option('offline')}")
    hub = hubs.of(reference.hub)
    if not any(name.endswith(".safetensors") for name in hub.names(reference.repo_id)):
        raise UsageError(
            f"{model} has no safetensors: of a GGUF repository, fetch the file first and give its path"
        )
    from edgellm.fit import builds

    folder = hub.fetch(reference.repo_id, ("config.json",))
    config, expected = builds.read_config(folder)
    return _of_config(config, _shapes(reference) or expected, reference.repo_id, types)


def _of_config(
    config: dict[str, Any], shapes: Mapping[str, tuple[int, ...]], name: str, types: Sequence[str]
) -> Subject:
    from edgellm.fit import builds
    from edgellm.formats.nested_config import language_model
    from edgellm.models.registry import spec_of
    from edgellm.models.renaming import renamed

    names = renamed(shapes)
    spec = spec_of(config, {names[name]: shape for name, shape in shapes.items()})
    return builds.of_config(language_model(config), spec, name, types)


def _shapes(reference: Reference) -> dict[str, tuple[int, ...]] | None:
    """Of all tensors, by the headers of the files they are in; None for a hub that is not asked for ranges."""
    if (reference.hub or hubs.preferred()) == spellings.MODELSCOPE:
        return None
    privacy.refuse_telemetry()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import NotASafetensorsRepoError, SafetensorsParsingError

    try:
        found = HfApi().get_safetensors_metadata(reference.repo_id)
    except (NotASafetensorsRepoError, SafetensorsParsingError, OSError) as error:
        raise CheckpointError(
            f"{reference.repo_id}: the headers of its weights cannot be read ({error})"
        ) from error
    return {
        name: tuple(info.shape)
        for file in found.files_metadata.values()
        for name, info in file.tensors.items()
    }
