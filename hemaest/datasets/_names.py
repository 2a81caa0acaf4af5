"""Tables and other files beside the images, by name."""

from pathlib import Path

from hemaest.datasets._tree import folder_key, walk


def files_with(folder: Path, extension: str) -> list[Path]:
    """Return the files of one extension at any depth, the shallowest first, without debris."""
    found = [
        here / name
        for here, _, names in walk(folder)
        for name in names
        if Path(name).suffix.lower() == extension
    ]
    return sorted(found, key=lambda file: (len(file.parts), file))


def tables_named(folder: Path, *names: str) -> list[Path]:
    """Return the CSV files of these names at any depth; letters and digits are compared."""
    wanted = {folder_key(name) for name in names}
    return [file for file in files_with(folder, ".csv") if folder_key(file.stem) in wanted]
