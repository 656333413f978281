"""What transformers cost on house numbers (Sect. 4.2: 6 %)."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stn_jax.benchmarks.cost import svhn_training
from stn_jax.benchmarks.timing import Contender, Row

MODELS = {"CNN": "CNN", "ST-CNN Single": "Single", "ST-CNN Multi": "Multi"}
# Images of a batch by their side in px. A.5 has 128, which take a CPU minutes. Of fewer images the
# dense layers' weights cost each a larger share, and the transformers so a smaller one. At 128 px,
# 32 would need buffers of over 2 GiB, which the C library maps anew in every call.
CPU_BATCH_SIZES = {64: 32, 128: 16}


def svhn_rows(get_config: Callable[[str], ConfigDict]) -> Iterator[Row]:
    """Yield forward and backward of the three networks of Table 2 at each size.

    Args:
      get_config: of SVHN.
    """
    for size, cpu_batch_size in CPU_BATCH_SIZES.items():
        batch_size = cpu_batch_size if jax.default_backend() == "cpu" else 128
        contenders = {
            name: partial(forward_and_backward, get_config(f"{model},{size}px"), batch_size)
            for name, model in MODELS.items()
        }
        yield Row(f"{size} px, batch {batch_size}", "forward and backward", contenders)


def forward_and_backward(config: ConfigDict, batch_size: int) -> Contender:
    """Return the loss and its gradient of a config's network, on images of noise."""
    training = svhn_training(config)
    batch = jax.tree.map(jnp.asarray, training.noise(np.random.default_rng(0), batch_size))
    params, state = jax.jit(training.model.init)(jax.random.key(0))
    step = jax.jit(jax.value_and_grad(training.loss, has_aux=True))
    return Contender(partial(step, params, state, batch, jax.random.key(1)), jax.block_until_ready)
