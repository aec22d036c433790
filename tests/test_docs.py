"""What the documents and the code cite is there: files, links, headings, and the flags of every command."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from jaxcd import cli

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [file for room in ("jaxcd", "tools", "configs") for file in sorted((ROOT / room).rglob("*.py"))]
FILE = re.compile(r"`((?:jaxcd|tests|tools|configs|docs|benchmarks)/[\w./-]*|[A-Z]+\.md|pyproject\.toml)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(document: Path) -> set[str]:
    """Anchors that a page's headings make, as GitHub does."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def lines_of_commands(document: Path) -> list[str]:
    """Commands in a page's code blocks, each on one line."""
    text = re.sub(r"\\\n\s*", " ", document.read_text())
    found = [line.strip().partition("  #")[0] for line in text.splitlines() if line.startswith("    ")]
    return [line for line in found if re.match(r"(\S*python\S* -m jaxcd\.|(\S*/)?jaxcd )", line)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_and_links_that_a_document_cites_are_there(document):
    text = document.read_text()
    for cited in FILE.findall(text):
        assert (ROOT / cited).exists(), f"{document.name} cites {cited}"
    for target in LINK.findall(text):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        page = (document.parent / file).resolve() if file else document
        assert page.exists(), f"{document.name} links to {target}"
        assert not anchor or page.suffix != ".md" or anchor in anchors(page), f"{document.name} links to {target}"


def test_sections_that_the_code_cites_are_headings_of_the_method():
    text = "\n".join(re.sub(r"\s*\n\s*#?\s*", " ", path.read_text()) for path in SOURCES)
    cited = re.findall(r"docs/method\.md, ([A-Z][a-z]+(?:,? [a-z]+){0,3})", text)
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "method.md").read_text(), re.MULTILINE)
    assert len(cited) > 10
    for section in cited:
        assert any(section.startswith(heading) or heading.startswith(section) for heading in headings), section


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_that_a_document_shows_take_their_flags(document):
    for line in lines_of_commands(document):
        words = shlex.split(line)
        place = next(k for k, word in enumerate(words) if word.startswith("jaxcd.") or word.endswith("jaxcd"))
        name = words[place].removeprefix("jaxcd.") if words[place].startswith("jaxcd.") else words[place + 1]
        assert name in (*cli.COMMANDS, "completion"), line
        if name == "completion":
            continue
        flags = importlib.import_module(f"jaxcd.{name}").parser()._option_string_actions
        for word in words[place + 1 :]:
            if word.startswith("--"):
                assert word.partition("=")[0] in flags, f"{document.name}: {line}: no flag {word}"


def test_the_readme_shows_each_entry():
    shown = " ".join(lines_of_commands(ROOT / "README.md"))
    assert all(f"jaxcd.{name} " in shown or f"jaxcd {name} " in shown for name in cli.COMMANDS)
