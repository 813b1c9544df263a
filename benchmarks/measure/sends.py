"""What `.delay()` of a decorated task costs its caller, beside the same call of a plain one."""

from __future__ import annotations

from measure import processes, servers
from measure.options import Options
from measure.tables import Table


def measure(options: Options) -> Table:
    rounds = "5" if options.quick else "40"
    rows, raw = [], {}
    with servers.redis_database() as broker:
        for store in ("PostgreSQL", "SQLite"):
            folder = options.folder(f"sends-{store}")
            if store == "SQLite":
                report = processes.run(_place(folder, broker, f"sqlite:///{folder}/store.sqlite"), *_ARGS, rounds)
            else:
                with servers.fresh_postgresql() as url:
                    report = processes.run(_place(folder, broker, url), *_ARGS, rounds)
            raw[store] = report
            rows += [[f"{kind}, {store}", *(f"{one[n]:.0f}" for n in ("wall", "cpu"))] for kind, one in report.items()]
    return Table(
        title="One .delay(), for its caller",
        headings=["", "µs a call", "CPU µs a call"],
        rows=rows,
        notes=["Redis as broker; medians of batches of 50 calls by turns; decorated: a commit, then the same message"],
        raw=raw,
    )


_ARGS = ("measure.send_calls",)


def _place(folder: object, broker: str, url: str) -> processes.Place:
    return processes.Place(folder, broker, url)  # type: ignore[arg-type]
