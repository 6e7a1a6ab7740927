"""jaxtyping's checks of shapes, faster: they took most of the time of the tests of tiny models."""

import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import config


def speed_up() -> None:
    """What jaxtyping puts around typeguard's check of a value, without binding a signature at each value."""
    try:
        import typeguard
    except ImportError:  # without the hook nothing is checked
        return
    check, check_union = getattr(typeguard.check_type, "__wrapped__", None), typeguard.check_union
    if check is None:
        return

    def check_type(argname: str, value: Any, expected_type: Any, *rest: Any, **named: Any) -> None:
        if type(expected_type) is types.UnionType:
            check_union(argname, value, expected_type, *rest, **named)
        else:
            check(argname, value, expected_type, *rest, **named)

    typeguard.check_type = check_type


def typechecked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`typeguard.typechecked`, which otherwise reads the signature anew at each call."""
    import typeguard

    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return typeguard.typechecked(function)


@contextmanager
def unchecked() -> Iterator[None]:
    """For what is repeated with the same shapes, such as further steps of training."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)
