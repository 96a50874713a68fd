"""``python -m tlm_search`` is ``tlm-search``."""

from tlm_search.cli.main import main

if __name__ == "__main__":
    main()
