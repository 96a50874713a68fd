"""A journal at a URL, in pieces that are named by their offsets.

A piece can be created only once, so two writers can never both append.
"""

from __future__ import annotations

from tlm_search.errors import StoreError
from tlm_search.remote.remote import Remote

PIECES = "journal"


class RemoteJournal:
    """The journal of the study at ``remote``, up to its first gap. It is listed once, here."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._sizes: dict[int, int] = {}  # of the pieces, by their offsets
        self.end = 0
        for name, listed in remote.list(PIECES).items():
            offset = name.rpartition("/")[2]
            if offset.isdigit() and int(offset) == self.end:
                self._sizes[self.end] = listed.size
                self.end += listed.size

    def append(self, data: bytes) -> bool:
        """Create the next piece. Return False if another writer has appended.

        Raises:
            StoreError: the URL cannot be written.
        """
        # The offset is this writer's own count, so that creating the piece fails if another has appended.
        if not self._remote.create(_name(self.end), data):
            return False
        self._sizes[self.end] = len(data)
        self.end += len(data)
        return True

    def agrees_with(self, local: bytes) -> bool:
        """Return whether the shorter of the two journals is the beginning of the longer, by their last common piece.

        Every piece contains the times of its trials, so two different histories have no piece in common.

        Raises:
            StoreError: the URL cannot be read.
        """
        common = [offset for offset in self._sizes if offset < len(local)]
        if not common:
            return not local or not self._sizes
        data = self._remote.read(_name(common[-1])) or b""
        return bool(data) and data.startswith(local[common[-1] : common[-1] + len(data)])

    def read(self, start: int = 0) -> bytes:
        """Return the bytes from the offset ``start``.

        Raises:
            StoreError: the URL cannot be read, or the journal was replaced since it was listed.
        """
        wanted = [offset for offset, size in self._sizes.items() if offset + size > start]
        found = self._remote.read_many([_name(offset) for offset in wanted])
        if len(found) < len(wanted):
            raise StoreError(f"{self._remote} changed while it was read", hint="try again")
        return b"".join(found[_name(offset)] for offset in wanted)[start - wanted[0] if wanted else 0 :]


def _name(offset: int) -> str:
    return f"{PIECES}/{offset:016d}"
