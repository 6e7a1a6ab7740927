"""A run as an HTTP service with a page (extra ``serve``)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqdiffrec.serving.app import create_app

__all__ = ["create_app"]


def __getattr__(name: str) -> Any:
    """The application when it is asked for: the model's process does without, and starts sooner."""
    if name != "create_app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from seqdiffrec.serving.app import create_app

    return create_app
