"""What an optimizer keeps for each number that trains."""

from __future__ import annotations

STATES = 2  # moments of an Adam, which most of the offered optimizers are kin to
EIGHT_BIT_SCALES = 8 / 256  # bytes a state of 8 bits needs beside itself: one float32 per 256, for each of two
# states by what a name contains, the first that fits; those not named keep two
KEPT = (
    ("adafactor", 0.02),  # one number a row and one a column
    ("adalomo", 0.02),
    ("lomo", 0.0),
    ("lion", 1.0),
    ("muon", 1.0),
    ("adagrad", 1.0),
    ("rmsprop", 1.0),
    ("sgd", 0.0),
    ("ademamix", 3.0),
    ("galore", 0.5),
    ("apollo", 0.25),
)

# by the beginning of a name: those that move each parameter by itself, so that it can be handed to them alone
INDEPENDENT = (
    "adamw_torch",
    "adamw_bnb",
    "adamw_8bit",
    "paged_",
    "lion",
    "ademamix",
    "adafactor",
    "rmsprop",
    "sgd",
    "muon",
)
OTHERWISE = ("adamw_torch_4bit", "adamw_torch_8bit", "adamw_torch_xla", "adamw_torch_npu")  # states or steps of others


def rounds_stochastically(optimizer: str) -> bool:
    """Whether weights that train in bfloat16 under `optimizer` are updated in float32 and rounded by chance.

    The trainer hands such weights to it one by one, as float32; so the states that it keeps of them are float32, too.
    """
    return optimizer.startswith(INDEPENDENT) and optimizer not in OTHERWISE


def state_bytes(optimizer: str, trained: int, width: int, *, momentum: bool = False) -> float:
    """Bytes that `optimizer` holds for `trained` numbers of `width` bytes each."""
    states = next((count for part, count in KEPT if part in optimizer), float(STATES))
    if "sgd" in optimizer and momentum:
        states = 1.0
    if "8bit" in optimizer:
        return trained * states * (1 + EIGHT_BIT_SCALES / 2)
    if "4bit" in optimizer:
        return trained * states * (0.5 + EIGHT_BIT_SCALES)
    if "fp8" in optimizer:
        return trained * states
    return trained * states * width


def step_bytes(optimizer: str, trained: float, largest: float, *, cuda: bool, rounded: bool = False) -> float:
    """Bytes that the update itself takes for a moment. trained: bytes of all that trains; largest: of one tensor.

    rounded: what trains is in bfloat16, and handed to the optimizer one by one, with its gradient, in float32.
    """
    if rounded:
        return 4 * largest + step_bytes(optimizer, 2 * largest, 2 * largest, cuda=cuda)
    if "fused" in optimizer or "8bit" in optimizer or "4bit" in optimizer:
        return 0.0
    # without a fused kernel, CUDA works on all tensors at once and the CPU on one after the other
    return trained if cuda else 2 * largest
