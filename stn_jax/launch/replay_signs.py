"""Traffic signs step by step: where a run's first transformer looked while it was trained."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from stn_jax import geometry
from stn_jax.launch import gtsrb
from stn_jax.launch.examples import frames_of, in_chunks, name_of, sign_examples
from stn_jax.reporting.runs import Run
from stn_jax.reporting.signs import TrackExamples
from stn_jax.training.errors import ConfigError
from stn_jax.training.optim import make_optimizer
from stn_jax.training.state import create_state
from stn_jax.training.step import make_train_call


class Replay(NamedTuple):
    """What a run's first transformer did while it was trained.

    Attributes:
      examples: the middle frame of some tracks, a frame a look.
      steps: of the looks, from 0 on.
      overlap: intersection over union of the box around the region that is read and the sign's, at
        each look on average over all frames of all tracks (G12).
      whole: that of the whole image and the sign's.
    """

    examples: TrackExamples
    steps: list[int]
    overlap: list[float]
    whole: float


def replay_signs(run: Run, indices: Sequence[int], *, steps: int, every: int) -> Replay:
    """Train the first seed of a run again for some steps, and note where it looks on the way.

    Args:
      run: of traffic signs, with a transformer.
      indices: of tracks, as in `examples.apply_to_tracks`; the middle frame is shown.
      steps: how many; no more than the run's.
      every: how many from one look to the next; a multiple of `config.runtime.steps_per_call`.

    Raises:
      ConfigError: if the data here are not those of the run, or the steps do not fit its config.
      IndexError: if there is no such track.
    """
    config = ConfigDict(run.config)
    per_call = config.runtime.steps_per_call
    if every < 1 or every % per_call or not every <= steps <= config.training.num_steps:
        raise ConfigError(
            f"looks every {every} of {steps} steps: they must be a multiple of {per_call} "
            f"(runtime.steps_per_call) apart, within the run's {config.training.num_steps}."
        )
    opened = gtsrb.open_signs(run.config, run.fingerprint)
    tracks, shape = opened.tracks, opened.tracks.image.shape[1:3]
    rows = frames_of(tracks, indices, 3).reshape(-1, 3)[:, 1]
    problem, model = gtsrb.make_problem(config), gtsrb.make_model(config)
    recorded = json.loads(run.path.read_text(encoding="utf-8").splitlines()[0])["data"]
    if recorded != problem.description:
        raise ConfigError(f"{run.name} saw {recorded}, here are {problem.description}.")
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    state = create_state(problem.init, optimizer, config.seeds[:1])
    train_call = make_train_call(
        problem.draw, problem.loss, optimizer, steps_per_call=per_call, vmap_seeds=False
    )

    @jax.jit
    def look(params: Any, model_state: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        params, model_state = jax.tree.map(lambda x: x[0], (params, model_state))
        return gtsrb.look(
            lambda x: model.apply(params, model_state, x)[0], images, config, opened.moments
        )

    def look_at_all() -> tuple[np.ndarray, np.ndarray]:
        return in_chunks(partial(look, state.params, state.model_state), tracks.image)

    seen, found = [0], [look_at_all()]
    while seen[-1] + every <= steps:
        for _ in range(every // per_call):
            state, _ = train_call(state, problem.data)
        seen.append(int(state.step[0]))
        found.append(look_at_all())
    # [steps, N, ...] to a track after the other.
    affine, read = (
        np.stack([of_all[rows] for of_all in part], axis=1).reshape(-1, *part[0].shape[1:])
        for part in zip(*found, strict=True)
    )
    shown = tracks.select(np.repeat(rows, len(seen)))
    affine_family = geometry.TRANSFORMS["affine"]
    regions = [gtsrb.region_box(of_all, affine_family, shape) for of_all, _ in found]
    image = np.float32([[0, 0, shape[1], shape[0]]])
    return Replay(
        examples=sign_examples(name_of(run, opened), shown, affine, read, frames=len(seen)),
        steps=seen,
        overlap=[_mean_overlap(region, tracks.box) for region in regions],
        whole=_mean_overlap(image, tracks.box),
    )


def _mean_overlap(regions: jax.Array, boxes: np.ndarray) -> float:
    """Return the mean intersection over union of regions [N, 4] or [1, 4] and boxes [N, 4]."""
    return float(np.mean(geometry.intersection_over_union(regions, boxes)))
