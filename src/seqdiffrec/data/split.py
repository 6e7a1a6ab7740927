"""Which actions a model learns from and which it is asked for: leave-one-out, a point in time, a log's own."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqdiffrec.data.corpus import Corpus, Sequences
from seqdiffrec.data.errors import DataError


@dataclass(frozen=True, eq=False)
class Cases:
    """Questions with a known answer: one a user, or as many as a split of one's own has.

    users: int64 (B,), rows in the corpus.
    histories: what the model may see, oldest first; never empty.
    targets: int32 (B,), the item index that came next.
    """

    users: NDArray[np.int64]
    histories: Sequences
    targets: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.users)

    def select(self, rows: NDArray[Any] | slice) -> "Cases":
        """The cases at `rows` (indices, a boolean mask or a slice), in that order."""
        return Cases(self.users[rows], self.histories.select(rows), self.targets[rows])


@dataclass(frozen=True, eq=False)
class Split:
    """Sequences to learn from, cases to choose a model by, and cases to report.

    first_targets: int64, the place in `train.items` from which on each sequence's items are learned, where all before
        them are known already; a sequence's end for none. Without it all are, from the second on.
    """

    train: Sequences
    validation: Cases
    test: Cases
    first_targets: NDArray[np.int64] | None = None


def leave_one_out(corpus: Corpus) -> Split:
    """Each user's last item is the test target, the one before it the validation target (Section 5.1.2 of the paper).

    The history of a test case includes the validation item. Users with fewer than three actions only train.
    Row u of `train` is user row u of the corpus.
    Raises DataError when no user has three actions.
    """
    starts, ends = corpus.offsets[:-1], corpus.offsets[1:]
    users = np.flatnonzero(ends - starts >= 3)
    if len(users) == 0:
        raise DataError(
            f"{corpus.name}: no user has three actions or more, so nothing can be left out for validation and test; "
            "give a longer log"
        )
    train_ends = ends.copy()
    train_ends[users] -= 2
    return Split(
        train=Sequences(corpus.items, starts, train_ends),
        validation=_cases_at(corpus, users, ends[users] - 2),
        test=_cases_at(corpus, users, ends[users] - 1),
    )


def whole_log(corpus: Corpus) -> Split:
    """Every action to learn from and none to choose or report by, as a model is trained that is to be used."""
    nobody = np.empty(0, np.int64)
    return Split(corpus.sequences(), _cases_at(corpus, nobody, nobody), _cases_at(corpus, nobody, nobody))


def split_at_time(corpus: Corpus, validation_time: float | datetime, test_time: float | datetime) -> Split:
    """One point in time for all users, so that no model learns from what happened after the time it is asked at.

    Actions before `validation_time` train (users without one are left out of `train`). A user's first action in
    [validation_time, test_time) is the validation target, the first at or after `test_time` the test target; the
    history is all before that action. A user whose first action ever is the target has no history and no case.

    validation_time, test_time: in the unit of the corpus' timestamps; a datetime stands for its microseconds since
        1970 (UTC where it has no zone), as in logs whose times were datetimes or ISO texts.
    Raises DataError when the log had no times, when the times are not in order, or when a part comes out empty.
    """
    if corpus.timestamps is None:
        raise DataError(f"{corpus.name} has no timestamps; use leave-one-out, or give a log with times")
    first, second = _as_number(validation_time), _as_number(test_time)
    if not first < second:
        raise DataError(f"validation_time ({validation_time}) must lie before test_time ({test_time})")
    starts, ends = corpus.offsets[:-1], corpus.offsets[1:]
    validation_places = starts + _count_before(corpus, first)
    test_places = starts + _count_before(corpus, second)
    trained = np.flatnonzero(validation_places > starts)
    validated = np.flatnonzero((validation_places > starts) & (validation_places < test_places))
    tested = np.flatnonzero((test_places > starts) & (test_places < ends))
    for part, users in (("training actions", trained), ("validation cases", validated), ("test cases", tested)):
        if len(users) == 0:
            raise DataError(
                f"{corpus.name}: no {part} with validation_time {validation_time} and test_time {test_time}; "
                f"its timestamps run from {corpus.timestamps.min()} to {corpus.timestamps.max()}"
            )
    return Split(
        train=Sequences(corpus.items, starts[trained], validation_places[trained]),
        validation=_cases_at(corpus, validated, validation_places[validated]),
        test=_cases_at(corpus, tested, test_places[tested]),
    )


def split_by_parts(corpus: Corpus) -> Split:
    """The split that the log brought with it: each action belongs to training, to validation or to the test.

    A user's actions are in this order (`prepare` sees to it). Those of training, of a user who has some, are one
    sequence. Each one of validation and of the test is a case, whose history is all that the user did before it, also
    in other parts; a user's very first action has no history and makes no case.
    Raises DataError when the log had no such column, or when a part comes out empty.
    """
    if corpus.parts is None:
        raise DataError(f"{corpus.name} has no parts; name the column that says train, validation or test with split")
    starts, users = corpus.offsets[:-1], np.repeat(np.arange(corpus.num_users), np.diff(corpus.offsets))
    trained = np.bincount(users[corpus.parts == 0], minlength=corpus.num_users)
    has_history = np.ones(corpus.num_actions, dtype=bool)
    has_history[starts] = False
    places = [np.flatnonzero((corpus.parts == code) & has_history) for code in (1, 2)]
    some = np.flatnonzero(trained)
    for part, found in (("training actions", some), ("validation cases", places[0]), ("test cases", places[1])):
        if len(found) == 0:
            raise DataError(
                f"{corpus.name}: no {part} by its column {corpus.provenance.get('split')!r}; some rows must say train, "
                "some validation and some test, and an action is a case only where its user has done something before"
            )
    return Split(
        train=Sequences(corpus.items, starts[some], starts[some] + trained[some]),
        validation=_cases_at(corpus, users[places[0]], places[0]),
        test=_cases_at(corpus, users[places[1]], places[1]),
    )


def _cases_at(corpus: Corpus, users: NDArray[np.int64], places: NDArray[np.int64]) -> Cases:
    """Ask for the item at each place (an index into the corpus' items) of these users; the history is all before it."""
    return Cases(users, Sequences(corpus.items, corpus.offsets[users], places), corpus.items[places])


def _count_before(corpus: Corpus, time: float) -> NDArray[np.int64]:
    """Number of each user's actions with a timestamp below `time`, int64 (U,)."""
    assert corpus.timestamps is not None
    running = np.concatenate(([0], np.cumsum(corpus.timestamps < time)))
    return running[corpus.offsets[1:]] - running[corpus.offsets[:-1]]


def _as_number(time: float | datetime) -> float:
    if not isinstance(time, datetime):
        return time
    zoned = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    since = zoned - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
