"""What docs/firmware.md tells the reader to type is typed here, and must say what it says there."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "firmware.md"
README = PAGE.parent.parent / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`([\w.]+)`:\s*$")


def blocks():
    """The page's blocks: the language, the file that it is to be, and its text."""
    text, end = PAGE.read_text(encoding="utf-8"), 0
    for block in BLOCK.finditer(text):
        named = FILE.search(text[end : block.start()])
        yield block[1], named and named[1], block[2]
        end = block.end()


def dialogue(text):
    """The commands of a block, each with the lines that it answers."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, answer = part.partition("\n")
        yield command, answer.splitlines()


def matches(said, promised):
    """Whether lines are those that are promised, where "..." stands for any text."""
    pattern = re.escape("\n".join(promised)).replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, "\n".join(said), re.DOTALL) is not None


@pytest.fixture
def shell(tmp_path):
    """A function that runs a command as a shell in an empty folder would, after the last one."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, how in (("pyodl", "-m pyodl"), ("pytest", "-m pytest"), ("python", "")):
        script = commands / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {how} "$@"\n')
        script.chmod(0o755)
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "LC_ALL": "C"}
    for name in [name for name in environment if name.startswith("PYTEST_")]:
        del environment[name]
    last = 0

    def run(command):
        nonlocal last
        done = subprocess.run(
            ["sh", "-c", f"(exit {last}); {command}"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        last = done.returncode
        return done.stdout.splitlines()

    run.folder = folder
    return run


def has_float16():
    """Whether the host's gcc knows _Float16."""
    if not shutil.which("gcc"):
        return False
    program = "int main(void) { _Float16 x = 1; return x != 1; }"
    command = ["gcc", "-std=c11", "-x", "c", "-", "-o", os.devnull]
    done = subprocess.run(command, input=program, text=True, capture_output=True, check=False)
    return done.returncode == 0


def test_every_command_of_the_page_says_what_the_page_says(shell):
    if not has_float16():
        pytest.skip("docs/firmware.md: needs gcc 12 or later as gcc, for _Float16")
    statuses, commands = [], 0
    for language, file, text in blocks():
        if file:
            (shell.folder / file).write_text(text)
            continue
        assert language == "console"
        for command, promised in dialogue(text):
            if command.startswith("pip install"):
                assert command in README.read_text(encoding="utf-8")
                continue
            said = shell(command)
            assert matches(said, promised), f"$ {command}\n" + "\n".join(said)
            commands += 1
            if command == "echo $?":
                statuses += said
    assert {"0", "1", "2"} <= set(statuses)
    assert commands > 15
