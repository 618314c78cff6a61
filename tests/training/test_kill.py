"""A run killed at any moment and resumed arrives at the weights of an uninterrupted one."""

import json
from pathlib import Path

from tiny_runs import run_script

# The moments are all the calls that make something durable, before and after each, and the
# optimizer's steps. One program forks a process for each, since starting one takes seconds.
SCRIPT = """
import json, os, shutil, signal, sys
from pathlib import Path

import torch

from hyena.training import CheckpointConfig, list_checkpoints, read_metrics, train
from hyena.training.metrics import Metrics
from tiny_runs import differing, tiny_config

data, folder = Path(sys.argv[1]), Path(sys.argv[2])
sys.stderr = open(os.devnull, "w")
os.fsync = lambda descriptor: None  # what a killed process has written stays without it


def run(out, **changes):
    checkpoint = CheckpointConfig(every=2, keep=1)
    model = {"dropout": 0.2}
    return train(tiny_config(data, out, model=model, steps=4, checkpoint=checkpoint, **changes))


def in_child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def count_moments(until=None):
    count = 0

    def watch(owner, name):
        function = getattr(owner, name)

        def moment():
            nonlocal count
            count += 1
            if count == until:
                os.kill(os.getpid(), signal.SIGKILL)

        def watched(*arguments, **keywords):
            moment()
            result = function(*arguments, **keywords)
            moment()
            return result

        setattr(owner, name, watched)

    for name in ("fsync", "rename", "replace"):
        watch(os, name)
    watch(shutil, "rmtree")
    watch(Metrics, "write")
    watch(torch.optim.AdamW, "step")
    return lambda: count


whole = run(folder / "whole")


def counted():
    moments = count_moments()
    run(folder / "counted")
    (folder / "moments").write_text(str(moments()))


assert in_child(counted) == 0
moments = int((folder / "moments").read_text())
killed, wrong = 0, []
for moment in range(1, moments + 1, int(sys.argv[3])):
    out = folder / f"killed-{moment}"

    def victim():
        count_moments(moment)
        run(out)

    killed += in_child(victim) == -signal.SIGKILL

    def resumed():
        result = run(out, resume=True)
        assert differing(whole.checkpoint, result.checkpoint) == []
        steps = [record["step"] for record in read_metrics(out / "metrics.jsonl")]
        assert steps == [1, 2, 3, 4], steps
        left = sorted(path.name for path in (out / "checkpoints").iterdir())
        assert left == sorted(path.name for path in (folder / "whole/checkpoints").iterdir()), left
        best = [folder / name / "checkpoints" / "best.json" for name in ("whole", out.name)]
        assert best[0].read_text() == best[1].read_text()

    if in_child(resumed):
        wrong.append(moment)
print(json.dumps({"moments": moments, "killed": killed, "wrong": wrong}))
"""


def test_killed_and_resumed(data: Path, tmp_path: Path) -> None:
    stride = 9
    report = json.loads(
        run_script(SCRIPT, data, tmp_path, stride, folder=tmp_path).splitlines()[-1]
    )
    assert report["wrong"] == []
    assert report["moments"] > 50
    assert report["killed"] == -(-report["moments"] // stride)
