"""Layers of Inception-v3 (Szegedy et al. 2015, "Rethinking the Inception architecture")."""

from stn_jax.models.inception_layers import Block, Conv, Fork, Pool


def inception_v3_blocks(*, average: str, last_pool: str) -> dict[str, Block]:
    """Return the blocks by name, in order: 299 px become 8x8x2048, 8x8x1280 after mixed_8.

    Args:
      average: kind of the average pooling, as in `Pool`.
      last_pool: kind of the pooling in the last block.
    """
    halve = Pool("max", 2, "valid")
    blocks: dict[str, Block] = {
        "conv_0": (Conv("conv", 32, (3, 3), 2, "valid"),),
        "conv_1": (Conv("conv", 32, (3, 3), 1, "valid"),),
        "conv_2": (Conv("conv", 64, (3, 3)),),
        "pool_0": (halve,),
        "conv_3": (Conv("conv", 80, (1, 1)),),
        "conv_4": (Conv("conv", 192, (3, 3), 1, "valid"),),
        "pool_1": (halve,),
    }
    # Number of the block -> filters that distinguish it from others of its kind.
    for number, projection in {0: 32, 1: 64, 2: 64}.items():
        blocks[f"mixed_{number}"] = _with_5x5(projection, average)
    blocks["mixed_3"] = _halving_with_3x3(halve)
    for number, inner in {4: 128, 5: 160, 6: 160, 7: 192}.items():
        blocks[f"mixed_{number}"] = _with_7x7(inner, average)
    blocks["mixed_8"] = _halving_with_7x7(halve)
    for number, kind in {9: average, 10: last_pool}.items():
        blocks[f"mixed_{number}"] = _with_forks(kind)
    return blocks


def _with_5x5(projection: int, average: str) -> Block:
    branches = (
        (Conv("1x1", 64, (1, 1)),),
        (Conv("5x5_reduce", 48, (1, 1)), Conv("5x5", 64, (5, 5))),
        (
            Conv("double_3x3_reduce", 64, (1, 1)),
            Conv("double_3x3_1", 96, (3, 3)),
            Conv("double_3x3_2", 96, (3, 3)),
        ),
        (Pool(average), Conv("pool_projection", projection, (1, 1))),
    )
    return (Fork(branches),)


def _halving_with_3x3(halve: Pool) -> Block:
    branches = (
        (Conv("3x3", 384, (3, 3), 2, "valid"),),
        (
            Conv("double_3x3_reduce", 64, (1, 1)),
            Conv("double_3x3_1", 96, (3, 3)),
            Conv("double_3x3_2", 96, (3, 3), 2, "valid"),
        ),
        (halve,),
    )
    return (Fork(branches),)


def _with_7x7(inner: int, average: str) -> Block:
    across, down = (1, 7), (7, 1)
    branches = (
        (Conv("1x1", 192, (1, 1)),),
        (
            Conv("7x7_reduce", inner, (1, 1)),
            Conv("7x7_1", inner, across),
            Conv("7x7_2", 192, down),
        ),
        (
            Conv("double_7x7_reduce", inner, (1, 1)),
            Conv("double_7x7_1", inner, down),
            Conv("double_7x7_2", inner, across),
            Conv("double_7x7_3", inner, down),
            Conv("double_7x7_4", 192, across),
        ),
        (Pool(average), Conv("pool_projection", 192, (1, 1))),
    )
    return (Fork(branches),)


def _halving_with_7x7(halve: Pool) -> Block:
    branches = (
        (Conv("3x3_reduce", 192, (1, 1)), Conv("3x3", 320, (3, 3), 2, "valid")),
        (
            Conv("7x7_reduce", 192, (1, 1)),
            Conv("7x7_1", 192, (1, 7)),
            Conv("7x7_2", 192, (7, 1)),
            Conv("7x7_halve", 192, (3, 3), 2, "valid"),
        ),
        (halve,),
    )
    return (Fork(branches),)


def _with_forks(kind: str) -> Block:
    def fork(name: str) -> Fork:
        across, down = Conv(f"{name}_across", 384, (1, 3)), Conv(f"{name}_down", 384, (3, 1))
        return Fork(((across,), (down,)))

    branches = (
        (Conv("1x1", 320, (1, 1)),),
        (Conv("3x3_reduce", 384, (1, 1)), fork("3x3")),
        (
            Conv("double_3x3_reduce", 448, (1, 1)),
            Conv("double_3x3", 384, (3, 3)),
            fork("double_3x3"),
        ),
        (Pool(kind), Conv("pool_projection", 192, (1, 1))),
    )
    return (Fork(branches),)
