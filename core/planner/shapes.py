"""Models on the meta device, which have shapes and no values; and what is said of those that cannot do without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core.errors import UserError
from core.types import Plan


class NoShapes(UserError):
    """A model, an adapter or a loss that reads values where there are shapes alone.

    mistake: the error says nothing of values, so that it is one of ours or of a plugin; the reason then names its kind.
    """

    def __init__(self, error: BaseException) -> None:
        self.mistake = not _of_values(error)
        line = str(error).partition("\n")[0]
        name = type(error).__name__
        self.reason = (f"{name}: {line}" if self.mistake else line) if line else name
        super().__init__(
            f"this cannot be laid out from shapes alone ({self.reason})",
            help="a run of two steps (max_steps: 2) says what it takes",
        )


def shape_of(plan: Plan) -> Any:
    """The model that `plan` trains, on the meta device. Raises `NoShapes` where it cannot be built there."""
    import torch

    with by_shapes(), torch.device("meta"):
        return plan.adapter.build(plan)


@contextmanager
def by_shapes() -> Iterator[None]:
    """Within: what torch raises because a meta tensor has no values becomes `NoShapes`; any other error flies."""
    try:
        yield
    except (NotImplementedError, RuntimeError) as error:
        if not _of_values(error):
            raise
        raise NoShapes(error) from error


def _of_values(error: BaseException) -> bool:
    return isinstance(error, NotImplementedError | RuntimeError) and "meta" in str(error).lower()


@contextmanager
def as_no_shapes() -> Iterator[None]:
    """Within, in a run: whatever goes wrong becomes `NoShapes`, but for what the user can put right. The model is built
    with its values, too, so that a mistake of ours or of an adapter shows there."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise NoShapes(error) from error
