"""Every message that the documentation quotes is in the package's source, word for word."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "airflow_provider_amzbiz"
DOCS = ROOT / "docs"

# Quoted words of others: Login with Amazon, S3, botocore and Airflow.
OTHERS = {
    "invalid_request",
    "invalid_scope",
    "server_error",
    "access token",
    "AccessDenied",
    "ConditionalRequestConflict",
    "NoSuchBucket",
    "Unauthorized",
    "Parameter validation failed",
    "Unable to locate credentials",
    "Invalid reportDocumentId",
    'Unknown hook type ""',
    "Connection not found",
    "Skipping masking for a secret as it's too short",
    "airflow connections test",
}
# Stands for a value in a message.
VALUE = "\0"


def first_cells(page, heading):
    """Return the first cells of a page's tables that have a heading."""
    tables = re.findall(rf"^   \* - {heading}\n(.*?)(?=^\S|\Z)", page, re.MULTILINE | re.DOTALL)
    return [
        cell
        for table in tables
        for cell in re.findall(r"^   \* - (.*?)(?=^     - )", table, re.MULTILINE | re.DOTALL)
    ]


def quoted():
    """Return the messages that troubleshooting lists, and those of the test of a connection."""
    cells = first_cells((DOCS / "troubleshooting.rst").read_text(), "(?:Message|Symptom)")
    found = [quote for cell in cells for quote in re.findall(r"``(.+?)``", cell, re.DOTALL)]
    found += [cell.replace("``", "") for cell in first_cells((DOCS / "connection.rst").read_text(), "Message")]
    return list(dict.fromkeys(re.sub(r"\s+", " ", quote).strip() for quote in found))


def message(node):
    """Return the text of a string expression, with :data:`VALUE` for what is not constant."""
    if isinstance(node, ast.Constant):
        # A log message has its values as %s.
        return re.sub(r"%(\.\d+)?[sdrif]", VALUE, node.value) if isinstance(node.value, str) else VALUE
    if isinstance(node, ast.JoinedStr):
        return "".join(message(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return message(node.left) + message(node.right)
    return VALUE


def docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


def source():
    """Return the messages of the package, and the names of its parameters."""
    messages, names = set(), set()
    for path in PACKAGE.rglob("*.py"):
        if path.is_relative_to(PACKAGE / "sandbox"):
            continue
        tree = ast.parse(path.read_text())
        skipped = {id(node) for node in docstrings(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.arg):
                names.add(node.arg)
            elif isinstance(node, ast.expr) and id(node) not in skipped and (text := message(node)) != VALUE:
                messages.add(text)
    return "\n".join(messages), names


MESSAGES, NAMES = source()


def may_be_a_value(word):
    """Return whether a word of a quote may be a value in the message, such as a parameter, a code or a status."""
    return word.strip("',:;()") in NAMES | OTHERS or not re.fullmatch(r"[A-Z]?[a-z]+[.,:;]?", word)


def pattern(fragment):
    words = []
    for word in fragment.split(" "):
        end = re.escape(word[-1]) if word[-1] in ".,:;" else ""
        words.append(f"(?:{re.escape(word)}|{VALUE}{end})" if may_be_a_value(word) else re.escape(word))
    return " ".join(words)


def is_there(fragment):
    """Return whether a message has these words, or a message has the first of them and its value the rest."""
    if re.search(pattern(fragment), MESSAGES):
        return True
    words = fragment.split(" ")
    return any(
        re.search(rf"{pattern(' '.join(words[:number]))}\W?{VALUE}", MESSAGES)
        and re.search(rf"^\W?{pattern(' '.join(words[number:]))}", MESSAGES, re.MULTILINE)
        for number in range(1, len(words))
    )


def missing(quote):
    """Return the parts of a quote, between its gaps and sentences, that no message has."""
    # Two messages may be joined at the end of a sentence, after a colon, and by "; but".
    fragments = [each.strip(" ,;:.()'") for each in re.split(r"\.\.\.|(?<=[a-z])[.:] |; (?:but )?", quote)]
    ours = [each for each in fragments if each not in OTHERS and re.search("[A-Za-z]", each)]
    return [each for each in ours if not is_there(each)]


@pytest.mark.parametrize("quote", quoted())
def test_a_quoted_message_is_one_of_the_package(quote):
    assert missing(quote) == []


def test_there_are_quotes():
    assert len(quoted()) > 150


@pytest.mark.parametrize(
    ("quote", "parts"),
    [
        ("region is ..., but must be one of", []),
        ("region is ..., but shall be one of", ["but shall be one of"]),
        ("getReport got no reply whatever from ... (...)", ["getReport got no reply whatever from"]),
    ],
)
def test_other_words_than_those_of_the_source_are_found(quote, parts):
    assert missing(quote) == parts
