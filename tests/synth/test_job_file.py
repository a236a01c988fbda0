"""The text of a job file: what counts as a line with a job, and files of other kinds."""

import json

import pytest

from vidar.synth.job_file import job_lines, parse_job
from vidar.types import UsageError, VidarError

A, B = '{"id": "a", "seconds": 1}', '{"id": "b", "prompt": "ein Gr\u00fc\u00df\u2028Gott"}'


@pytest.mark.parametrize(
    "text",
    [
        f"{A}\n\n{B}\n",
        f"\n// a comment\n  // another\n{A}\n{B}",
        f"{A}\r\n\r\n{B}\r\n",
        f"{A}\r{B}\r",
        f"\t{A}  \n{B}   \n\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lines_with_jobs(text, encoding, tmp_path):
    """Any line end, blank lines and comments; what Windows writes in front of a text is no part of it."""
    (tmp_path / "jobs").write_bytes(text.encode(encoding))
    lines = job_lines(tmp_path / "jobs")
    assert [parse_job(line) for _, line in lines] == [json.loads(A), json.loads(B)]
    ends = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert [ends[number - 1].strip() for number, _ in lines] == [A, B]


FILES = {
    "an array": (f"[\n  {A},\n  {B}\n]\n", "is a JSON array; write one object per line"),
    "an array on one line": (f"[{A}, {B}]", "is a JSON array"),
    "an indented object": ('{\n "id": "a",\n "seconds": 1\n}\n', "spreads an object over several lines"),
    "CSV": ("id,seed,frames\na,1,64\n", "looks like a CSV table"),
    "CSV with semicolons": ("// jobs\n\n\"id\"; seed; frames\na;1;64\n", "looks like a CSV table"),
    "nothing": ("", "holds no jobs"),
    "only comments": ("// one\n\n // two\n", "holds no jobs"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_files_of_another_kind_are_one_line(case, tmp_path):
    text, problem = FILES[case]
    (tmp_path / "jobs.x").write_text(text)
    with pytest.raises(UsageError, match=f"jobs.x: {problem}"):
        job_lines(tmp_path / "jobs.x")


@pytest.mark.parametrize("data", [A.encode("utf-16-le"), b"\0\0\0\x1cftypisom"])
def test_files_that_are_no_text(data, tmp_path):
    (tmp_path / "jobs.x").write_bytes(data)
    with pytest.raises(UsageError, match="jobs.x: is no text in UTF-8"):
        job_lines(tmp_path / "jobs.x")


def test_a_folder_is_no_job_file(tmp_path):
    with pytest.raises(UsageError, match=r"not readable as a file of jobs \(Is a directory\)"):
        job_lines(tmp_path)


LINES = {
    "a comma at the end": (A + ",", "remove the comma at the end of the line"),
    "a comma too many": ('{"id": "a",}', "remove the comma before the closing bracket"),
    "single quotes": ("{'id': 'a'}", "write double quotes"),
    "another comment": ("# first the walks", "a comment begins with //"),
    "a comment behind": (A + " // the first", "put the comment on a line of its own"),
    "two objects": (A + A, "write one object per line"),
    "half": ('{"id": "a"', "not readable as JSON"),
    "too deep": ("[" * 100_000, "not readable as JSON"),
    "a number": ("3", "is not an object; write"),
    "another encoding": ('{"id": "\udcfc"}', "is not text in UTF-8"),
    "a field twice": ('{"id": "a", "seed": 1, "seed": 2}', "gives seed twice"),
}


@pytest.mark.parametrize("case", LINES)
def test_a_line_that_is_no_job_says_what_to_do(case):
    line, problem = LINES[case]
    with pytest.raises(VidarError, match=problem) as raised:
        parse_job(line)
    assert "\n" not in str(raised.value)
