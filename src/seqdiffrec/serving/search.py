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
        wanted = str(_plain(pl.Series([query]))[0])
        words = wanted.split()[:MOST_WORDS]
        if not words:
            return self._rows.head(limit).to_list()
        found = pl.DataFrame({"row": self._rows, "text": self._plain})
        for word in words:
            found = found.filter(pl.col("text").str.contains(word, literal=True))
        begins, holds = pl.col("text").str.starts_with(wanted), pl.col("text").str.contains(wanted, literal=True)
        found = found.select("row", worse=2 - begins.cast(pl.Int8) - holds.cast(pl.Int8))
        return found.sort("worse", maintain_order=True)["row"].head(limit).to_list()


def _plain(texts: pl.Series) -> pl.Series:
    """Small letters without accents, and one blank between words."""
    text = pl.col("text")
    small = texts.alias("text").to_frame().with_columns(text.str.to_lowercase().str.strip_chars())
    # Most texts need no more than this, and the rest takes ten times as long.
    rare = (text.str.len_bytes() != text.str.len_chars()) | text.str.contains(r"\s\s|[\t\r\n]")
    apart = text.str.normalize("NFKD").str.replace_all(r"\p{M}", "").str.replace_all(r"\s+", " ")
    marked = small.with_columns(rare=rare.fill_null(False)).with_row_index("place")
    mended = marked.filter("rare").with_columns(apart)
    return pl.concat([marked.filter(~pl.col("rare")), mended]).sort("place")["text"]
