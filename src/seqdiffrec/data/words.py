"""Numbers of things as people write them."""


def counted(count: int, thing: str) -> str:
    """The number with the name of the thing behind it, which takes an s unless there is one: 1 epoch, 1,349 items."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
