"""Layers of Inception with batch normalisation (Ioffe & Szegedy 2015, Fig. 5), "Inception-v2"."""

from stn_jax.models.inception_layers import Block, Conv, Fork, Pool

# Block -> filters of the 1x1; of the 3x3's reduction and the 3x3; of the double 3x3's reduction and
# of each 3x3; of the projection behind the pooling. Without the first and the last, it halves maps.
# The names are TensorFlow-Slim's; the publication's 3a is mixed_3b, its 3c mixed_4a and so on.
WIDTHS: dict[str, tuple[int, int, int, int, int, int]] = {
    "mixed_3b": (64, 64, 64, 64, 96, 32),
    "mixed_3c": (64, 64, 96, 64, 96, 64),
    "mixed_4a": (0, 128, 160, 64, 96, 0),
    "mixed_4b": (224, 64, 96, 96, 128, 128),
    "mixed_4c": (192, 96, 128, 96, 128, 128),
    "mixed_4d": (160, 128, 160, 128, 160, 96),
    "mixed_4e": (96, 128, 192, 160, 192, 96),
    "mixed_5a": (0, 128, 192, 192, 256, 0),
    "mixed_5b": (352, 192, 320, 160, 224, 128),
    "mixed_5c": (352, 192, 320, 192, 224, 128),
}
# BN-Inception, the Caffe model that PyTorch's is made from, has wider projections in two blocks.
CAFFE_WIDTHS = WIDTHS | {
    "mixed_4d": (160, 128, 160, 128, 160, 128),
    "mixed_4e": (96, 128, 192, 160, 192, 128),
}


def inception_v2_blocks(
    widths: dict[str, tuple[int, int, int, int, int, int]],
    *,
    conv_padding: str,
    pool_padding: str,
    average: str,
    normalise_first: bool,
) -> dict[str, Block]:
    """Return the blocks by name, in order: 224 px become 7x7x1024.

    Args:
      widths: `WIDTHS` or `CAFFE_WIDTHS`.
      conv_padding: of the convolutions with stride 2, a key of `inception_layers.PADDINGS`.
      pool_padding: of the max-pooling with stride 2, likewise.
      average: kind of the average pooling, as in `Pool`. In the last block it is max-pooling.
      normalise_first: whether the first convolution has batch normalisation, or a bias instead.
    """
    halve = Pool("max", 2, pool_padding)
    blocks: dict[str, Block] = {
        "conv_1": (Conv("conv", 64, (7, 7), 2, conv_padding, normalise_first),),
        "pool_1": (halve,),
        "conv_2_reduce": (Conv("conv", 64, (1, 1)),),
        "conv_2": (Conv("conv", 192, (3, 3)),),
        "pool_2": (halve,),
    }
    for name, (one, reduce, three, reduce_double, double, projection) in widths.items():
        last = (1, "same") if projection else (2, conv_padding)
        branches: list[Block] = [
            (Conv("3x3_reduce", reduce, (1, 1)), Conv("3x3", three, (3, 3), *last)),
            (
                Conv("double_3x3_reduce", reduce_double, (1, 1)),
                Conv("double_3x3_1", double, (3, 3)),
                Conv("double_3x3_2", double, (3, 3), *last),
            ),
        ]
        if projection:
            kind = "max" if name == "mixed_5c" else average
            branches = [
                (Conv("1x1", one, (1, 1)),),
                *branches,
                (Pool(kind), Conv("pool_projection", projection, (1, 1))),
            ]
        else:
            branches.append((halve,))
        blocks[name] = (Fork(tuple(branches)),)
    return blocks
