"""Work that other processes do ahead."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ltx_trainer.errors import MediaError, OutOfResources
from ltx_trainer.workers import FEW_BYTES, MOST_WORKERS, ahead, num_threads, num_workers


@dataclass(frozen=True)
class Note:
    """Leaves a note of who did what."""

    folder: Path

    def __call__(self, item: int) -> None:
        if item == 5:
            raise MediaError("five.mp4 is damaged.")
        (self.folder / str(item)).write_text(f"{os.getpid()} {num_threads()}")


@pytest.mark.parametrize("workers", [0, 2])
def test_each_item_is_given_in_order_once_it_is_done(tmp_path: Path, workers: int) -> None:
    for number, item in enumerate(ahead(Note(tmp_path), [3, 1, 2], workers=workers)):
        assert item == [3, 1, 2][number]
        assert (tmp_path / str(item)).is_file()

    done_by = {(tmp_path / str(item)).read_text().split()[0] for item in (1, 2, 3)}
    assert (str(os.getpid()) in done_by) == (not workers)


def test_a_worker_decodes_in_its_share_of_the_cores(tmp_path: Path) -> None:
    list(ahead(Note(tmp_path), [1], workers=1))

    cores = len(os.sched_getaffinity(0))
    assert (tmp_path / "1").read_text().split()[1] == str(cores)
    assert num_threads() == 0


def test_few_items_are_begun_before_they_are_asked_for(tmp_path: Path) -> None:
    taken: list[int] = []

    def coming() -> Iterator[int]:
        for item in range(6, 40):
            taken.append(item)
            yield item

    first = ahead(Note(tmp_path), coming(), workers=2)
    next(first)
    assert len(taken) == 4
    first.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_is_raised_when_its_items_turn_comes(tmp_path: Path, workers: int) -> None:
    given = ahead(Note(tmp_path), [1, 5, 2], workers=workers)
    assert next(given) == 1
    with pytest.raises(MediaError, match=r"^five.mp4 is damaged.$"):
        next(given)


@dataclass(frozen=True)
class Crash:
    """Dies of one item, as of a file that a decoder cannot bear."""

    folder: Path

    def __call__(self, item: int) -> None:
        if item == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        (self.folder / str(item)).touch()


def test_an_item_that_kills_its_process_costs_only_itself(tmp_path: Path) -> None:
    lost: list[int] = []

    given = list(ahead(Crash(tmp_path), [1, 2, 3, 4, 5], workers=2, lost=lost.append))

    assert (given, lost) == ([1, 2, 3, 4, 5], [2])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3", "4", "5"]


def test_a_dead_process_of_which_nobody_is_told_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutOfResources, match=r"killed or crashed, twice.* It worked on 2\."):
        list(ahead(Crash(tmp_path), [1, 2, 3], workers=1))


@pytest.mark.parametrize(
    ("asked", "sizes", "expected"),
    [
        (None, [FEW_BYTES // 2 - 1] * 2, 0),
        (None, [FEW_BYTES], 0),
        (None, [FEW_BYTES] * 3, min(3, MOST_WORKERS, len(os.sched_getaffinity(0)))),
        (0, [FEW_BYTES] * 3, 0),
        (5, [1] * 3, 3),
    ],
)
def test_processes_are_started_where_there_is_work_for_them(asked: int | None, sizes: list[int], expected: int) -> None:
    assert num_workers(asked, sizes) == expected
