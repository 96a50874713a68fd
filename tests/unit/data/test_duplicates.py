from __future__ import annotations

from tlm_search.data.sources.duplicates import nearest_earlier

LONG = "the quick brown fox jumps over the lazy dog while the old grey cat sleeps on a warm red roof all day long"


def test_near_repetitions_point_to_the_first_text() -> None:
    texts = [
        LONG,
        "something else entirely that shares nothing with the other sentences in this short list",
        LONG.replace("red", "RED 7,"),
        LONG.replace("dog", "hare"),
        "",
        "short",
        "short!",
    ]
    assert list(nearest_earlier(texts)) == [0, 1, 0, 0, 4, 5, 5]


def test_one_shared_phrase_is_no_repetition() -> None:
    other = "a painter who jumps over the lazy dog never finishes any portrait of his beautiful rich neighbours"
    assert list(nearest_earlier([LONG, other])) == [0, 1]


def test_nothing_in_nothing_out() -> None:
    assert list(nearest_earlier([])) == []


def test_the_chunks_do_not_matter(monkeypatch: object) -> None:
    import tlm_search.data.sources.duplicates as module

    texts = [
        f"{LONG} {i}" if i % 3 == 0 else f"text {i} " + " ".join(f"w{i * j}x" for j in range(9)) for i in range(30)
    ]
    whole = list(nearest_earlier(texts))
    monkeypatch.setattr(module, "_CHUNK", 7)  # type: ignore[attr-defined]
    assert list(nearest_earlier(texts)) == whole
