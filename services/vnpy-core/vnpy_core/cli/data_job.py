"""`vnpy-core data job`: an import or export of the service, in a process of its own.

See `features.market_data.jobspec` for what is said over stdin and stdout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.cli.data_store import exchange_resolver, opened, tidy
from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.features.market_data.exporting import ExportSpec, run_export
from vnpy_core.features.market_data.importing import ImportSpec, run_import
from vnpy_core.features.market_data.jobspec import JobSpec, OnProgress, serve_job


def serve() -> int:
    """Do the one job that stdin asks for; returns the exit code."""
    return serve_job(_work)


def _work(job: JobSpec, on_progress: OnProgress) -> dict[str, Any]:
    settings = TimeSeriesSettings.model_validate(job.timeseries)
    with opened(settings, Path(job.data)) as store:
        match job.kind:
            case "import":
                resolve = exchange_resolver(Path(job.contracts) if job.contracts else None)
                result = run_import(msgspec.convert(job.spec, ImportSpec), store, resolve, on_progress)
                tidy(store)
                plain: dict[str, Any] = msgspec.to_builtins(result)
                return plain
            case "export":
                with open(job.out, "wb") as out:
                    return {"rows": run_export(msgspec.convert(job.spec, ExportSpec), store, out, on_progress)}
            case other:
                raise ValidationFailed(f"there are no jobs of the kind {other!r}")
