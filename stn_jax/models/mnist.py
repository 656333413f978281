"""The networks of the MNIST experiments: FCN, CNN, ST-FCN, ST-CNN, 2xST-FCN (A.1, A.4)."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from flax import nnx

from stn_jax.geometry import Transform
from stn_jax.models.layers import Conv, Dense, avg_pool, flatten, max_pool
from stn_jax.models.localisation import ConvLocalisation, DenseLocalisation
from stn_jax.models.pure import count_params
from stn_jax.models.spatial_transformer import ParallelTransformers, SpatialTransformer

# All models of a table have this many parameters (A.4: "around 400k"), within 5%.
NUM_PARAMS = 400_000


class FCN(nnx.Module):
    """Two fully connected hidden layers and a classification layer (A.4)."""

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        width: int,
        num_classes: int = 10,
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ):
        """Build the layers for inputs [H, W, C] with `width` units a hidden layer.

        `dropout` is the share of hidden units dropped in training (A.4: none).
        """
        self.hidden1 = Dense(int(np.prod(input_shape)), width, rngs=rngs)
        self.hidden2 = Dense(width, width, rngs=rngs)
        self.classifier = Dense(width, num_classes, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the logits [B, num_classes] of x [B, H, W, C]; `rngs` feeds dropout."""
        x = self.dropout(jax.nn.relu(self.hidden1(flatten(x))), rngs=rngs)
        x = self.dropout(jax.nn.relu(self.hidden2(x)), rngs=rngs)
        return self.classifier(x)


class CNN(nnx.Module):
    """A 9x9 and a 7x7 convolution, each with 2x2 max-pooling, and a classification layer (A.4).

    Pooling keeps partial windows: without them the 21x21 maps that the average-pooled
    transformer leaves on RTS would be too small for the second convolution. ReLU follows the
    pooling, which gives the same as before it, on a quarter of the values.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        width: int,
        num_classes: int = 10,
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ):
        """Build the layers for inputs [H, W, C] with `width` filters a convolution.

        `dropout` is the share of activations dropped in training after each pooling (A.4: none).
        """
        height, cols, channels = input_shape
        rows, cols = (-(-(-(-(size - 8) // 2) - 6) // 2) for size in (height, cols))
        if min(rows, cols) < 1:
            raise ValueError(f"CNN needs inputs of 21x21 at least, got {tuple(input_shape)}.")
        self.conv1 = Conv(channels, width, 9, rngs=rngs)
        self.conv2 = Conv(width, width, 7, rngs=rngs)
        self.classifier = Dense(rows * cols * width, num_classes, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the logits [B, num_classes] of x [B, H, W, C]; `rngs` feeds dropout."""
        return self.activations(x, rngs=rngs)[-1]

    def activations(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> list[jax.Array]:
        """Return what both hidden layers [B, h, w, width] and the last one [B, num_classes] give.

        A hidden layer's are those after pooling and ReLU.
        """
        first = self.dropout(jax.nn.relu(max_pool(self.conv1(x))), rngs=rngs)
        second = self.dropout(jax.nn.relu(max_pool(self.conv2(first))), rngs=rngs)
        return [first, second, self.classifier(flatten(second))]


class TransformedClassifier(nnx.Module):
    """A spatial transformer on the input, average pooling by 2 if wanted, a classifier (A.4)."""

    def __init__(
        self,
        transformer: SpatialTransformer | ParallelTransformers,
        classifier: nnx.Module,
        *,
        downsample: bool,
    ):
        """Put the classifier behind the transformer; `downsample` pools between (RTS and TC)."""
        self.transformer = transformer
        self.classifier = classifier
        self.downsample = downsample

    def __call__(
        self, x: jax.Array, *, rngs: nnx.Rngs | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the logits [B, num_classes] of x [B, H, W, C], with theta and the warped input."""
        warped, theta = self.transformer(x)
        logits = self.classifier(avg_pool(warped) if self.downsample else warped, rngs=rngs)
        return logits, {"theta": theta, "warped": warped}


class Plain(nnx.Module):
    """A classifier without a transformer, with the same kind of result as one with."""

    def __init__(self, classifier: nnx.Module):
        """Wrap the classifier."""
        self.classifier = classifier

    def __call__(
        self, x: jax.Array, *, rngs: nnx.Rngs | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the logits [B, num_classes] of x [B, H, W, C], and nothing else to report."""
        return self.classifier(x, rngs=rngs), {}


CLASSIFIERS = {"fcn": FCN, "cnn": CNN}
# A transformer's localisation network is of the kind of the classifier behind it.
LOCALISATIONS = {"fcn": DenseLocalisation, "cnn": ConvLocalisation}


def mnist_model(
    name: str,
    input_shape: Sequence[int],
    *,
    transform: str | Transform | None = None,
    num_transformers: int = 1,
    downsample: bool = False,
    num_classes: int = 10,
    num_params: int = NUM_PARAMS,
    dropout: float = 0.0,
) -> Callable[[nnx.Rngs], nnx.Module]:
    """Return a function of the random streams that builds a network of Table 1 or 4.

    Args:
      name: "fcn", "cnn", "st_fcn" or "st_cnn".
      input_shape: (H, W, C) of the images.
      transform: the transformer's family, for the st_ networks only.
      num_transformers: how many transformers stand side by side, for the st_ networks only.
      downsample: whether the transformer's output is average-pooled by 2 (RTS and TC), for the
        st_ networks only.
      num_classes: the classifier's outputs.
      num_params: the classifier's width is chosen such that the whole network comes as near to
        this count as it can. It outranks the paper's ranges of 128 to 256 units and 32 to 64
        filters, which miss 400k at most image sizes.
      dropout: of the classifier's hidden layers, in training; never of the localisation network.

    Raises:
      ValueError: if the name is unknown, if a transform is missing, if there is to be no
        transformer, or if a transform, several transformers or `downsample` are given to a network
        without one.
    """
    kind = name.removeprefix("st_")
    if kind not in CLASSIFIERS:
        names = ", ".join([*CLASSIFIERS, *(f"st_{kind}" for kind in CLASSIFIERS)])
        raise ValueError(f"unknown model {name!r}; there are {names}.")
    if (name != kind) != (transform is not None):
        raise ValueError(
            f"model {name!r} {'needs a' if name != kind else 'takes no'} transform, "
            f"got transform={transform!r}."
        )
    if transform is None and num_transformers > 1 or transform is not None and num_transformers < 1:
        counts = "no transformer" if transform is None else "at least one transformer"
        raise ValueError(f"model {name!r} has {counts}, got num_transformers={num_transformers}.")
    if downsample and transform is None:
        raise ValueError(f"downsample pools a transformer's output; model {name!r} has none.")

    options = {"num_classes": num_classes, "dropout": dropout}

    def build(rngs: nnx.Rngs, width: int) -> nnx.Module:
        if transform is None:
            return Plain(CLASSIFIERS[kind](input_shape, width=width, rngs=rngs, **options))
        height, cols, channels = input_shape
        height, cols = (height // 2, cols // 2) if downsample else (height, cols)
        inner_shape = (height, cols, num_transformers * channels)
        transformers = [
            SpatialTransformer(LOCALISATIONS[kind](input_shape, rngs=rngs), transform, rngs=rngs)
            for _ in range(num_transformers)
        ]
        return TransformedClassifier(
            transformers[0] if num_transformers == 1 else ParallelTransformers(transformers),
            CLASSIFIERS[kind](inner_shape, width=width, rngs=rngs, **options),
            downsample=downsample,
        )

    width = fit_width(build, num_params)
    return lambda rngs: build(rngs, width)


def fit_width(build: Callable[[nnx.Rngs, int], nnx.Module], num_params: int) -> int:
    """Return the width that brings a network's parameter count nearest to `num_params`.

    Args:
      build: function of the random streams and the width; the count must be a polynomial in the
        width, linear or quadratic.
      num_params: the count that is aimed at.
    """

    def count(width: int) -> int:
        module = nnx.eval_shape(lambda: build(nnx.Rngs(0), width))
        return count_params(nnx.to_pure_dict(nnx.state(module, nnx.Param)))

    # Layers between hidden layers grow with the width's square, all others at most linearly: three
    # counts determine the polynomial, and integer differences know exactly whether it is linear.
    one, two, three = (count(width) for width in (1, 2, 3))
    square = (three - 2 * two + one) / 2
    linear = two - one - 3 * square
    exact = max(np.roots([square, linear, one - square - linear - num_params]).real)
    candidates = {max(1, int(np.floor(exact))), max(1, int(np.ceil(exact)))}
    return min(candidates, key=lambda width: abs(count(width) - num_params))
