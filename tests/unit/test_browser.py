"""The tests' browser notices what it should notice."""

PAGE = """<!DOCTYPE html><html><head><link rel="icon" href="data:,"></head><body><p>here</p>
<img src="http://tlm-search.invalid/picture.png" alt=""><script>{}</script></body></html>"""


def test_errors_and_requests_outside_are_noted(open_page, tmp_path):
    (tmp_path / "bad.html").write_text(PAGE.format("console.error('told'); nothing.there()"))
    opened = open_page(tmp_path / "bad.html", width=390, dark=True)
    assert opened.requests_outside == ["http://tlm-search.invalid/picture.png"]
    assert "told" in opened.problems
    assert any("nothing is not defined" in problem for problem in opened.problems)
    assert opened.page.evaluate("[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]") == [390, True]


def test_a_clean_page_has_nothing_to_note(open_page, tmp_path):
    (tmp_path / "good.html").write_text("<!DOCTYPE html><link rel='icon' href='data:,'><p>here</p>")
    opened = open_page(tmp_path / "good.html")
    assert (opened.problems, opened.requests_outside) == ([], [])
    assert opened.page.inner_text("p") == "here"
