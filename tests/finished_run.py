"""A run that has finished, of a tiny model on a tiny text, as the commands make it."""

from pathlib import Path

from hyena.cli import main


def finished_run(folder: Path, *options: str) -> Path:
    """The folder, with texts in ``texts``, their token files in ``data`` and the run in ``run``.

    Args: the options of the training.
    """
    (folder / "texts").mkdir()
    for i in range(6):
        text = f"Speech number {i}. " + "The state of the union is strong. " * 10
        (folder / "texts" / f"{i}.txt").write_text(text)
    split = ["--validation=0.2", "--test=0.2"]
    assert main(["prepare", f"{folder}/texts", "--out", f"{folder}/data", *split]) == 0
    words = ["train", "--data", f"{folder}/data", "--out", f"{folder}/run", *options]
    assert main(words) == 0
    return folder
