"""Texts found by what people type: a part of a title, in any case, with or without accents."""

import polars as pl

MOST_WORDS = 8


class TextSearch:
    """Rows of a vocabulary whose text holds what is looked for; quick for a million of them.

    texts: a text for each row; null is found by nothing.
    order: the rows in the order in which equally good ones are named; from the first on without it.
    """

    def __init__(self, texts: pl.Series, order: pl.Series | None = None):
        self._rows = pl.int_range(0, len(texts), eager=True) if order is None else order
        self._plain = _plain(texts.gather(self._rows))

    def find(self, query: str, limit: int) -> list[int]:
        """Rows of the first ``limit`` texts that match; all do where nothing is looked for.

        First those that begin with the query, then those that hold it, then those that hold each of its words.
        """
        wanted = str(_plain(pl.Series([query]))[0]).strip()
        words = [word for word in wanted.split() if word][:MOST_WORDS]
        if not words:
            return self._rows.head(limit).to_list()
        holds = pl.lit(True)
        for word in words:
            holds &= pl.col("text").str.contains(word, literal=True)
        frame = pl.DataFrame({"row": self._rows, "text": self._plain})
        text = pl.col("text")
        # 0 to 2, the better the smaller.
        group = 2 - text.str.contains(wanted, literal=True).cast(pl.Int8) - text.str.starts_with(wanted).cast(pl.Int8)
        found = frame.lazy().filter(holds).with_columns(group=group).sort("group", maintain_order=True)
        return found.head(limit).select("row").collect()["row"].to_list()


def _plain(texts: pl.Series) -> pl.Series:
    """Small letters without accents, and one blank between words."""
    apart = texts.str.to_lowercase().str.normalize("NFKD").str.replace_all(r"\p{M}", "")
    return apart.str.replace_all(r"\s+", " ")
