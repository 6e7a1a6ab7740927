"""Ids in addresses: any text, slashes and line breaks in it too."""

from starlette.convertors import Convertor, register_url_convertor


class _AnyText(Convertor[str]):
    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """As it stands in the address, decoded."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


register_url_convertor("id", _AnyText())
ITEM, USER = "{item_id:id}", "{user_id:id}"
"""The part of a route that is an item's or a user's id."""
