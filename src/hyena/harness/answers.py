"""What a model has answered so far, kept beside an output until that is written."""

from __future__ import annotations

from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM

from hyena.harness.model import HyenaLM, is_drawn
from hyena.scoring.journal import Journal


class Answers(dict[str, Any]):
    """Answers by the digests of their questions, those of a journal; each new one is added to it.

    Numbers and texts are JSON there, where lm_eval's own files of answers are pickles, which can
    run code when they are read.

    Args: the journal, whose work has to tell models and settings apart: a question does not.
    """

    def __init__(self, kept: Journal) -> None:
        rows = ((row.get("question"), row.get("answer")) for row in kept.rows())
        super().__init__(
            (question, tuple(answer) if isinstance(answer, list) else answer)
            for question, answer in rows
            if isinstance(question, str) and answer is not None
        )
        self._kept = kept

    def __setitem__(self, question: str, answer: Any) -> None:
        if question not in self:  # which lm_eval gives again when all are there
            super().__setitem__(question, answer)
            self._kept.append([{"question": question, "answer": answer}])

    def commit(self) -> None:
        """Called by lm_eval; each answer has been written by then."""


class Remembering(CachingLM):  # type: ignore[misc]
    """A model that is not asked again for what is among the answers."""

    def __init__(self, lm: HyenaLM, answers: Answers) -> None:
        self.lm, self.dbdict = lm, answers
        self.cache_db = "the answers so far"  # what lm_eval calls it
        lm.set_cache_hook(self.get_cache_hook())

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """As `HyenaLM.generate_until`. Texts that are drawn are no answers to a question, which has
        others each time that it is repeated: they are drawn again."""
        drawn = [one for one in requests if is_drawn(one.args[1])]
        rest = [one for one in requests if not is_drawn(one.args[1])]
        texts = iter(self.lm.generate_until(drawn) if drawn else ())
        answers = iter(self.__getattr__("generate_until")(rest) if rest else ())
        return [next(texts if is_drawn(one.args[1]) else answers) for one in requests]
