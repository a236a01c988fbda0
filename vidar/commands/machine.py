"""`vidar doctor`."""

from __future__ import annotations

import typer

from vidar.commands import show


def doctor(as_json: show.Json = False) -> None:
    """Check this machine: Python, torch, devices, threads, video, disk. Exit code 1 if a check fails."""
    from vidar.eval.doctor import examine

    report = examine()
    show.result(report, as_json)
    raise typer.Exit(0 if report["ok"] else 1)
