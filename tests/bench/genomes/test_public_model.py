"""The public computation of a whole model is that of ours, from the same weights."""

from pathlib import Path

import pytest
import torch
from comparison import assert_close

from hyena.bench.genomes.public import PublicModel
from hyena.bench.genomes.work import bases, write_fasta
from hyena.genomes import read_sequences
from hyena.model import LanguageModel, preset

CONFIG = {"width": 16, "layers": 3, "max_length": 60}


def model(**changes: object) -> LanguageModel:
    config = preset("hyenadna-tiny-1k", **{**CONFIG, **changes})
    return LanguageModel(config, dtype=torch.float64).eval()


@pytest.mark.parametrize("length", [1, 33, 60])
def test_logits_and_scores_are_those_of_ours(length: int, generator: torch.Generator) -> None:
    ours = model()
    public = PublicModel(ours)
    ids = torch.randint(0, 12, (2, length + 1), generator=generator)
    inputs, targets = ids[:, :-1], ids[:, 1:]
    with torch.no_grad():
        logits = ours(inputs)
        assert_close(public(inputs), logits, 1e-10)
        scores = -ours.token_losses(inputs, targets)
        assert_close(public.token_scores(inputs, targets), scores, 1e-9)


def test_weights_are_copied() -> None:
    ours = model()
    public = PublicModel(ours)
    addresses = {p.data_ptr() for p in ours.parameters()}
    assert not [name for name, p in public.named_parameters() if p.data_ptr() in addresses]


@pytest.mark.parametrize(
    "changes",
    [{"mixers": "attention"}, {"norm": "rms"}, {"mlp": "gated"}, {"tied": False}],
    ids=lambda changes: next(iter(changes)),
)
def test_what_the_public_code_is_not_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="PublicModel: expected a model of"):
        PublicModel(model(**changes))


def test_a_file_of_sequences_has_as_many_bases_as_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "a.fa.gz"
    write_fasta(file, 1000)
    records = list(read_sequences(file))
    assert len(records) == 12
    assert sum(len(record.sequence) for record in records) == 1000
    assert set(b"".join(record.sequence for record in records)) == set(b"ACGT")
    assert bases(50) == bases(50)
    assert bases(50) != bases(50, seed=2)
