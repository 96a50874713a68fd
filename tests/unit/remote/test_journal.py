"""A journal at a URL: only one writer can append, and readers find the place where two journals differ."""

import pytest

from tlm_search.errors import StoreError
from tlm_search.remote.journal import RemoteJournal
from tlm_search.remote.remote import Remote


@pytest.fixture
def remote(url: str) -> Remote:
    remote = Remote(f"{url}/study")
    journal = RemoteJournal(remote)
    assert journal.append(b"one\n")
    assert journal.append(b"second\n")
    return remote


def test_a_reader_gets_the_bytes_from_any_offset(remote: Remote) -> None:
    journal = RemoteJournal(remote)
    assert journal.end == 11
    assert [journal.read(start) for start in (0, 2, 4, 7, 11)] == [
        b"one\nsecond\n",
        b"e\nsecond\n",
        b"second\n",
        b"ond\n",
        b"",
    ]


def test_the_second_of_two_writers_cannot_append(remote: Remote) -> None:
    first, second = RemoteJournal(remote), RemoteJournal(remote)
    assert first.append(b"mine\n")
    assert not second.append(b"other\n")
    assert second.end == 11
    assert RemoteJournal(remote).read() == b"one\nsecond\nmine\n"


@pytest.mark.parametrize(
    ("local", "agrees"),
    [
        (b"", True),
        (b"on", True),
        (b"one\n", True),
        (b"one\nsecond\n", True),
        (b"one\nsecond\nnew\n", True),
        (b"one\nother", False),
        (b"two", False),
    ],
)
def test_a_local_journal_agrees_if_one_of_the_two_begins_the_other(remote: Remote, local: bytes, agrees: bool) -> None:
    assert RemoteJournal(remote).agrees_with(local) == agrees


def test_an_empty_journal_agrees_with_all(url: str) -> None:
    assert RemoteJournal(Remote(f"{url}/other")).agrees_with(b"anything")


def test_pieces_behind_a_gap_do_not_count(remote: Remote) -> None:
    remote.create(f"journal/{20:016d}", b"lost")
    journal = RemoteJournal(remote)
    assert (journal.end, journal.read()) == (11, b"one\nsecond\n")


def test_a_journal_that_is_replaced_while_it_is_read_is_an_error(remote: Remote) -> None:
    journal = RemoteJournal(remote)
    remote.remove(f"journal/{4:016d}")
    with pytest.raises(StoreError, match="changed while it was read"):
        journal.read()
