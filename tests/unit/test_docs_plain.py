"""The docs are short and plain, their links lead somewhere, and docs/architecture.md names paths that exist."""

import re
from pathlib import Path
from typing import Final

import pytest

PROJECT: Final = Path(__file__).parents[2]
README: Final = PROJECT / "README.md"
PAGES: Final = [README, PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs").rglob("*.md"))]
COLUMNS: Final = 120
README_LINES: Final = 95
SENTENCE_WORDS: Final = 25
# English that was translated word by word, and words that only the authors understand.
BANNED: Final = (
    "are none",
    "behind the formatting",
    "ended well",
    "ends well",
    "for ever",
    "go on with",
    "goes on with",
    "gone on with",
    "half a sentence",
    "in nobody's plan",
    "is none",
    "the design",
    "was in vain",
    "what came as",
)


def named(page: Path) -> str:
    return str(page.relative_to(PROJECT))


every_page = pytest.mark.parametrize("page", PAGES, ids=named)


def without_code(text: str) -> str:
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)


def sentences(text: str) -> list[str]:
    """Return the sentences of a page's prose; a span of code counts as one word, a link as its text."""
    text = re.sub(r"`[^`]+`", "CODE", without_code(text))
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    # A table's row and a heading are no prose, and a list's item starts a sentence.
    text = re.sub(r"^(\||#).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^ *([-*]|\d+\.) ", "\n", text, flags=re.MULTILINE)
    blocks = re.split(r"\n\s*\n", text)
    return [found for block in blocks for found in re.split(r"(?<=[.!?])\W*\s+", " ".join(block.split())) if found]


def anchors(page: Path) -> set[str]:
    """Return what GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", without_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_fits_on_two_screens() -> None:
    assert len(README.read_text().splitlines()) <= README_LINES


def test_readme_has_no_long_sentence() -> None:
    assert [found for found in sentences(README.read_text()) if len(found.split()) > SENTENCE_WORDS] == []


def test_a_long_sentence_is_found_wherever_it_stands() -> None:
    long = " ".join(["word"] * 26)
    text = f"Short.\n\n- one\n- {long}. Next\n  line\n\n| {long} |\n\n```\n{long}\n```\n"
    assert [found for found in sentences(text) if len(found.split()) > SENTENCE_WORDS] == [f"{long}."]


@every_page
def test_lines_are_short(page: Path) -> None:
    lines = re.sub(r"https?://[^\s)]+", "", without_code(page.read_text())).splitlines()
    assert [line for line in lines if len(line) > COLUMNS and not line.startswith("|")] == []


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        leads_to = (page.parent / path).resolve() if path else page
        if not leads_to.exists() or (anchor and anchor not in anchors(leads_to)):
            broken.append(link)
    assert broken == []


@every_page
def test_english_is_plain(page: Path) -> None:
    text = " ".join(page.read_text().lower().split())
    assert [phrase for phrase in BANNED if re.search(rf"\b{re.escape(phrase)}\b", text)] == []


def test_architecture_is_one_page_and_names_what_exists() -> None:
    text = (PROJECT / "docs" / "architecture.md").read_text()
    assert len(text.splitlines()) <= 80
    # Files may move within the tree, so a bare file name may stand anywhere in it.
    paths = {name for name in re.findall(r"`([^`\s]+)`", text) if re.fullmatch(r"[\w.*-]+(/[\w.*-]*)+", name)}
    files = set(re.findall(r"`([\w-]+\.(?:py|sh|nix|toml))`", text))
    missing = [path for path in paths if not any(PROJECT.glob(path.rstrip("/")))]
    folders = ("deployments", "flows", "tasks", "holdfast", "lab", "nix", "tests")
    places = [PROJECT, *(place for top in folders for place in (PROJECT / top).rglob("*") if place.is_dir())]
    missing += [file for file in files if not any((place / file).is_file() for place in places)]
    assert (len(paths) > 10, missing) == (True, [])
