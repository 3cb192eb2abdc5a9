"""The fuzz target itself: its corpus is replayed, it runs for a moment with a fixed seed, and it finds what is wrong."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import bellwire

TARGET = Path(__file__).parents[1] / "fuzz" / "receive.py"
RUNS = 15_000

_spec = importlib.util.spec_from_file_location("fuzz_receive", TARGET)
receive = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(receive)

# atheris has wheels for Linux only; elsewhere the corpus is replayed, which needs nothing.
WAYS = [["--replay"]]
if importlib.util.find_spec("atheris") is not None:
    WAYS.append([f"-runs={RUNS}", "-seed=4", "-max_len=1024"])


@pytest.mark.parametrize("arguments", WAYS, ids=lambda arguments: arguments[0].strip("-"))
def test_fuzzing_finds_nothing(arguments, tmp_path):
    """Neither the kept inputs nor some thousand made of them make the receiver err or accept a forgery."""
    command = [sys.executable, str(TARGET), *arguments]
    if arguments != ["--replay"]:
        command += [f"-artifact_prefix={tmp_path}/", str(tmp_path), str(receive.CORPUS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "inputs replayed" in done.stdout or f"Done {RUNS} runs" in done.stderr


def test_every_way_to_use_the_package_is_in_the_corpus():
    """Forged requests for each key, secrets, changed parts and bodies to read: each has inputs to start from."""
    names = {path.name.partition("-")[0] for path in receive.CORPUS.iterdir()}
    assert names == {"forge", "secret", "change", "read"}


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("_check_signature", lambda *_: None),
        ("_check_signature", lambda *_: {}["x"]),
    ],
    ids=["accepts all", "another error"],
)
def test_the_target_finds_a_receiver_that_is_wrong(monkeypatch, name, fault):
    """A package that let forgeries in, or raised what is not its own, would be found by the corpus alone."""
    monkeypatch.setattr(bellwire.Webhook, name, fault)
    with pytest.raises((AssertionError, KeyError)):
        receive.replay()
