"""A run as an HTTP service with a page (extra ``serve``)."""

from seqdiffrec.serving.app import create_app

__all__ = ["create_app"]
