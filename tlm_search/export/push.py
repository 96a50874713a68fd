"""Upload an export to the Hugging Face hub. No other module uploads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tlm_search.errors import ExportError
from tlm_search.export.folder import CARD, MANIFEST, read_json, verified


def files_of(folder: Path) -> Mapping[str, int]:
    """Return the names and sizes of the files to upload: those of the manifest, the manifest and the card.

    Raises:
        ExportError: the export was changed after it was written.
    """
    verified(folder)
    listed = [*read_json(folder, MANIFEST)["files"], MANIFEST]
    names = [*listed, *([CARD] if (folder / CARD).is_file() else [])]
    return {name: (folder / name).stat().st_size for name in sorted(names)}


def push(folder: Path, repository: str, *, public: bool) -> str:
    """Upload an export to ``repository`` (OWNER/NAME), which is created if needed, and return its address.

    A new repository is private unless ``public``. The visibility of an existing one does not change.

    Raises:
        ExportError: the export is damaged, or the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    files = files_of(folder)
    api = HfApi(library_name="tlm-search")
    try:
        address = api.create_repo(repository, private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=address.repo_id,
            folder_path=folder,
            allow_patterns=list(files),
            commit_message="Upload with tlm-search",
        )
    except HFValidationError as error:
        raise ExportError(f"{repository} is not a repository's name: {error}", hint="allowed: OWNER/NAME") from error
    except LocalTokenNotFoundError as error:
        raise ExportError("there is no token for the Hugging Face hub", hint="log in with: hf auth login") from error
    except HfHubHTTPError as error:
        reason = str(error.server_message or error).strip().splitlines()[0]
        raise ExportError(
            f"the Hugging Face hub refused {repository}: {reason}",
            hint="check the name and your rights; log in with: hf auth login",
        ) from error
    except (OSError, _transport_error()) as error:
        raise ExportError(
            f"the Hugging Face hub cannot be reached: {error}", hint="check the network, or HF_ENDPOINT"
        ) from error
    return str(address)


def _transport_error() -> type[Exception]:
    """Return the error that the hub's client raises without a connection; it depends on the client's version."""
    from huggingface_hub import get_session

    for base in type(get_session()).__mro__:
        name = base.__module__.split(".")[0]
        if name.startswith("httpx"):
            from importlib import import_module

            found: type[Exception] = import_module(name).HTTPError
            return found
    return OSError  # the base class of requests' errors
