"""A follower is imported once, directly after its leader, at any time."""

import subprocess
import sys


def run(tmp_path, code):
    (tmp_path / "leader.py").write_text("import sys\nassert 'follower' not in sys.modules\nREADY = True\n")
    (tmp_path / "follower.py").write_text("import leader\nassert leader.READY\nprint('followed')\n")
    prelude = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from tlm_search.follow import import_after\n"
    return subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True, check=True).stdout


def test_the_follower_waits_for_its_leader(tmp_path):
    assert run(tmp_path, "import_after('leader', 'follower'); print('idle'); import leader") == "idle\nfollowed\n"


def test_a_leader_that_is_there_is_followed_at_once(tmp_path):
    code = "import leader; import_after('leader', 'follower'); print('done')"
    assert run(tmp_path, code) == "followed\ndone\n"


def test_a_leader_that_does_not_exist_is_still_an_import_error(tmp_path):
    code = (
        "import_after('nowhere', 'follower')\ntry:\n    import nowhere\nexcept ModuleNotFoundError:\n    print('none')"
    )
    assert run(tmp_path, code) == "none\n"
