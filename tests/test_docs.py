"""What the documents and the code cite exists: files, links, headings, and each command with its flags."""

import importlib
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxcd import cli, models

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
NOTES = ROOT / "benchmarks" / "NOTES.md"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS, NOTES]
LINKED = [*DOCUMENTS, ROOT / "CHANGELOG.md"]
SOURCES = [file for room in ("jaxcd", "tools", "configs") for file in sorted((ROOT / room).rglob("*.py"))]
FILE = re.compile(r"`((?:jaxcd|tests|tools|configs|docs|benchmarks)/[\w./-]*|[A-Z]+\.md|pyproject\.toml)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:[A-Z_]+=\S+ )*(?:\S*python\S* (?:-m jaxcd\.|tools/)|sh \S*tools/|(?:\S*/)?jaxcd )")
READMES_WORDS = 900
LINE = 120


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(document: Path) -> set[str]:
    """Anchors that a page's headings make, as GitHub does."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(document: Path) -> list[str]:
    """Commands of a page, each on one line: those of code blocks, and those within a sentence that have an option."""
    text = re.sub(r"\\\n\s*", " ", document.read_text())
    blocks = [line.strip().partition("  #")[0] for line in text.splitlines() if line.startswith("    ")]
    within = [re.sub(r"\s+", " ", code) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
    return [line for line in (*blocks, *(code for code in within if " -" in code)) if COMMAND.match(line)]


def called(command: str) -> tuple[str, list[str]]:
    """What a command starts (an entry's name, or a file of tools/) and the words behind it."""
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
    for place, word in enumerate(words):
        if word.startswith("jaxcd."):
            return word.removeprefix("jaxcd."), words[place + 1 :]
        if word.rsplit("/", 1)[-1] == "jaxcd":
            return words[place + 1], words[place + 2 :]
        if "tools/" in word:
            return "tools/" + word.partition("tools/")[2], words[place + 1 :]
    raise AssertionError(command)


def flags_of(started: str) -> set[str]:
    """Flags that an entry or a tool takes."""
    if not started.startswith("tools/"):
        return set(importlib.import_module(f"jaxcd.{started}").parser()._option_string_actions)
    tool = ROOT / started
    text = tool.read_text()
    if tool.suffix != ".py" and (behind := tool.with_suffix(".py")).exists():  # a script that hands its words on
        text = behind.read_text()
    found = re.findall(r'\(\s*"(--\w+)"|^ *(--\w+)\)', text, re.MULTILINE)
    return {"--help", *(flag for pair in found for flag in pair if flag)}


def extras_of_setup() -> set[str]:
    (known,) = re.findall(r'^"" \| (.+)\) ;;$', (ROOT / "tools" / "setup").read_text(), re.MULTILINE)
    return set(known.split(" | "))


def check_command(command: str) -> None:
    """Check that what a command names exists, and that it takes the flags."""
    started, words = called(command)
    if started in ("completion", "NAME"):
        return
    assert (ROOT / started).is_file() if started.startswith("tools/") else started in cli.COMMANDS, command
    known = flags_of(started)
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{command}: no flag {word}"
        elif word.startswith("configs/"):
            assert (ROOT / word).is_file(), f"{command}: no file {word}"
    if started == "tools/setup":
        assert set(words) <= extras_of_setup(), command


@pytest.mark.parametrize("document", LINKED, ids=name)
def test_links_of_a_document_lead_to_files_and_headings(document):
    for target in LINK.findall(document.read_text()):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        page = (document.parent / file).resolve() if file else document
        assert page.exists(), f"{document.name} links to {target}"
        assert not anchor or page.suffix != ".md" or anchor in anchors(page), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_files_that_a_document_names_are_there(document):
    for cited in FILE.findall(document.read_text()):
        assert (ROOT / cited).exists(), f"{document.name} names {cited}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_commands_that_a_document_shows_take_their_flags(document):
    for command in commands(document):
        check_command(command)


def test_flags_and_fields_that_the_documents_name_exist():
    tools = [name(path) for path in sorted((ROOT / "tools").iterdir()) if path.is_file() and path.suffix != ".txt"]
    known = set().union(*(flags_of(started) for started in (*cli.COMMANDS, *tools)))
    fields = {flag.removeprefix("--") for flag in known if flag.startswith("--config.")}
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS):
        code = " ".join(re.findall(r"`([^`]+)`", document.read_text()))
        for flag in re.findall(r"(?<![\w-])--[a-z]\w*(?![\w-])", re.sub(r"--config\.", "config.", code)):
            assert flag in known, f"{document.name} names {flag}"
        for field in set(re.findall(r"\bconfig(?:\.[a-z]\w*)+", code)) - {"config.json", "config.group.field"}:
            assert any(f"{each}.".startswith(f"{field}.") for each in fields), f"{document.name} names {field}"


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("python -m jaxcd.predict --run RUN --footprint FILE", "no flag --footprint"),
        (".venv/bin/jaxcd train --config.optim.emma=0.998", "no flag --config.optim.emma"),
        (".venv/bin/jaxcd train --config configs/none.py", "no file configs/none.py"),
        ("python -m jaxcd.map --run RUN", "jaxcd.map"),
        ("python tools/study.py --seed 3", "no flag --seed"),
        ("python tools/gone.py", "tools/gone.py"),
        ("sh tools/gpu_day OUT --tiny", "no flag --tiny"),
        ("sh tools/test --fast", "no flag --fast"),
        ("sh tools/setup rocm", "tools/setup rocm"),
    ],
)
def test_a_command_that_is_wrong_is_found(command, fault):
    with pytest.raises(AssertionError, match=re.escape(fault)):
        check_command(command)


def test_commands_are_found_in_blocks_and_within_lines(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "Text with `sh tools/test\n--slow` and `jaxcd.train`.\n\n    GLIBC=1 python -m jaxcd.train --config X \\\n"
        "        --workdir R   # there\n    sh carried/install\n    .venv/bin/jaxcd tune --trials 3\n"
    )
    assert [called(command) for command in commands(page)] == [
        ("train", ["--config", "X", "--workdir", "R"]),
        ("tune", ["--trials", "3"]),
        ("tools/test", ["--slow"]),
    ]


def test_sections_that_the_code_cites_are_headings_of_the_method():
    text = "\n".join(re.sub(r"\s*\n\s*#?\s*", " ", path.read_text()) for path in SOURCES)
    cited = re.findall(r"docs/method\.md, ([A-Z][a-z]+(?:,? [a-z]+){0,3})", text)
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "method.md").read_text(), re.MULTILINE)
    assert len(cited) > 10
    for section in cited:
        assert any(section.startswith(heading) or heading.startswith(section) for heading in headings), section


def test_the_documents_show_each_entry():
    shown = {called(command)[0] for document in (ROOT / "README.md", *DOCS) for command in commands(document)}
    assert set(cli.COMMANDS) <= shown


def test_the_readme_is_short_and_shows_the_tasks():
    readme = ROOT / "README.md"
    assert len(readme.read_text().split()) <= READMES_WORDS
    shown = {called(command)[0] for command in commands(readme)}
    assert {"tools/quickstart", "prepare", "train", "evaluate", "predict", "tune"} <= shown


def test_the_python_of_the_training_page_runs(tmp_path, monkeypatch):
    network, use = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs" / "training.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "my_networks.py").write_text(network)
    monkeypatch.syspath_prepend(str(tmp_path))
    images = jnp.zeros((1, 32, 32, 3))

    def logits(outputs: int) -> jax.Array:
        model = models.create("my_networks:Shallow", size="narrow", rngs=nnx.Rngs(0), outputs=outputs)
        return model(images, images)

    def used() -> jax.Array:
        names: dict = {}
        exec(use, names)
        return names["logits"]

    # Shapes alone: nothing is compiled.
    assert jax.eval_shape(lambda: logits(1)).shape == (1, 32, 32)
    assert jax.eval_shape(lambda: logits(4)).shape == (1, 32, 32, 4)
    assert jax.eval_shape(used).shape == (1, 256, 256)


def test_each_page_is_in_the_index():
    index = ROOT / "docs" / "README.md"
    linked = {target.partition("#")[0] for target in LINK.findall(index.read_text())}
    assert {page.name for page in DOCS} - {index.name} <= linked


@pytest.mark.parametrize("document", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS], ids=name)
def test_lines_of_a_document_are_short(document):
    for line in document.read_text().splitlines():
        assert len(line) <= LINE or line.startswith("|"), line
