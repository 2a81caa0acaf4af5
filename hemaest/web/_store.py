"""Everything the review page remembers, in one SQLite file.

A session has fields (images), a field has cells. Each observer has labels of their own; what the
model said stays in the cell. Every change is one transaction that also writes the log, so a
killed process loses nothing that was reported to the page as saved.
"""

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["NOT_COUNTED", "UNIDENTIFIED", "Conflict", "Missing", "Store"]

UNIDENTIFIED = "unidentified"
NOT_COUNTED = "not counted"

SCHEMA = """
CREATE TABLE IF NOT EXISTS session (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, created REAL NOT NULL, settings TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS field (
    id INTEGER PRIMARY KEY, session TEXT NOT NULL REFERENCES session, name TEXT NOT NULL,
    path TEXT NOT NULL, kind TEXT NOT NULL DEFAULT 'image', state TEXT NOT NULL DEFAULT 'queued',
    reason TEXT NOT NULL DEFAULT '',
    width INTEGER, height INTEGER, attempts INTEGER NOT NULL DEFAULT 0,
    warnings TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX IF NOT EXISTS field_session ON field (session);
CREATE INDEX IF NOT EXISTS field_state ON field (state);
CREATE TABLE IF NOT EXISTS cell (
    id INTEGER PRIMARY KEY, session TEXT NOT NULL, field INTEGER NOT NULL REFERENCES field,
    x0 REAL, y0 REAL, x1 REAL, y1 REAL, outline TEXT, nucleus TEXT, type TEXT NOT NULL,
    confidence REAL, probabilities TEXT, nc_ratio REAL, novel INTEGER NOT NULL DEFAULT 0,
    author TEXT NOT NULL DEFAULT '', reference_cells TEXT NOT NULL DEFAULT '[]', crop BLOB
);
CREATE INDEX IF NOT EXISTS cell_session ON cell (session);
CREATE INDEX IF NOT EXISTS cell_field ON cell (field);
CREATE TABLE IF NOT EXISTS label (
    session TEXT NOT NULL, observer TEXT NOT NULL, cell INTEGER NOT NULL REFERENCES cell,
    type TEXT, seen INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (observer, cell)
);
CREATE INDEX IF NOT EXISTS label_session ON label (session, observer);
CREATE TABLE IF NOT EXISTS action (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL, observer TEXT NOT NULL,
    before TEXT NOT NULL, after TEXT NOT NULL, undone INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS action_session ON action (session, observer);
CREATE TABLE IF NOT EXISTS signature (
    session TEXT NOT NULL, observer TEXT NOT NULL, time REAL NOT NULL, details TEXT NOT NULL,
    PRIMARY KEY (session, observer)
);
CREATE TABLE IF NOT EXISTS reference_cell (
    id TEXT PRIMARY KEY, type TEXT NOT NULL, source TEXT NOT NULL, crop BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS log (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL, observer TEXT NOT NULL,
    time REAL NOT NULL, event TEXT NOT NULL, details TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS log_session ON log (session);
CREATE TRIGGER IF NOT EXISTS log_keeps_rows BEFORE DELETE ON log
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS log_keeps_values BEFORE UPDATE ON log
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
"""
_JSON = {
    "settings",
    "warnings",
    "outline",
    "nucleus",
    "probabilities",
    "reference_cells",
    "details",
}


class Missing(LookupError):
    """What was named does not exist in this session."""


class Conflict(ValueError):
    """The request does not fit the state, for instance a change after the signature."""


class Store:
    """The SQLite file of a state folder.

    Parameters
    ----------
    path : path
        The file; it is made where it is missing.

    Examples
    --------
    >>> from hemaest.web._store import Store
    >>> store = Store(":memory:")
    >>> session = store.new_session("ward 3")
    >>> store.session(session)["name"]
    'ward 3'
    """

    def __init__(self, path: str | Path) -> None:
        # one connection behind one lock: SQLite has one writer anyway, and reads are short
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(SCHEMA)
        if "kind" not in {row["name"] for row in self._db.execute("PRAGMA table_info(field)")}:
            self._db.execute("ALTER TABLE field ADD COLUMN kind TEXT NOT NULL DEFAULT 'image'")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with self._lock:
            rows = self._db.execute(query, values).fetchall()
        return [
            {k: json.loads(row[k]) if k in _JSON and row[k] else row[k] for k in row.keys()}
            for row in rows
        ]

    def _row(self, what: str, query: str, *values: Any) -> dict[str, Any]:
        rows = self._rows(query, *values)
        if not rows:
            raise Missing(f"{what} is not there.")
        return rows[0]

    def _log(
        self, db: sqlite3.Connection, session: str, observer: str, event: str, **details: Any
    ) -> None:
        db.execute(
            "INSERT INTO log (session, observer, time, event, details) VALUES (?, ?, ?, ?, ?)",
            (session, observer, time.time(), event, json.dumps(details)),
        )

    # sessions and fields

    def new_session(self, name: str, settings: Mapping[str, Any] | None = None) -> str:
        """Open a session; return its name that nobody can guess."""
        session = secrets.token_urlsafe(12)
        with self._change() as db:
            db.execute(
                "INSERT INTO session VALUES (?, ?, ?, ?)",
                (session, name, time.time(), json.dumps(dict(settings or {}))),
            )
            self._log(db, session, "", "session opened", name=name)
        return session

    def sessions(self) -> list[dict[str, Any]]:
        """Return all sessions, newest first, with their numbers of fields and cells."""
        return self._rows(
            "SELECT id, name, created, (SELECT COUNT(*) FROM field WHERE session = s.id) AS fields,"
            " (SELECT COUNT(*) FROM cell WHERE session = s.id) AS cells,"
            " (SELECT COUNT(*) FROM signature WHERE session = s.id) AS signatures"
            " FROM session s ORDER BY created DESC"
        )

    def session(self, session: str) -> dict[str, Any]:
        """Return one session, or raise Missing."""
        return self._row("this session", "SELECT * FROM session WHERE id = ?", session)

    def set_settings(self, session: str, observer: str, settings: Mapping[str, Any]) -> None:
        """Change settings of a session, such as the leukocyte count."""
        known = self.session(session)["settings"]
        with self._change() as db:
            db.execute(
                "UPDATE session SET settings = ? WHERE id = ?",
                (json.dumps({**known, **settings}), session),
            )
            self._log(db, session, observer, "settings", **settings)

    def delete_session(self, session: str, observer: str) -> list[str]:
        """Forget fields, cells and labels; return the paths. The log keeps its lines."""
        self.session(session)
        paths = [f["path"] for f in self.fields(session)]
        with self._change() as db:
            for table in ("label", "action", "signature", "cell", "field"):
                db.execute(f"DELETE FROM {table} WHERE session = ?", (session,))
            db.execute("DELETE FROM session WHERE id = ?", (session,))
            self._log(db, session, observer, "session deleted")
        return paths

    def add_field(self, session: str, name: str, path: str | Path, kind: str = "image") -> int:
        """Queue an image or a slide for analysis; return its number."""
        with self._change() as db:
            number = db.execute(
                "INSERT INTO field (session, name, path, kind) VALUES (?, ?, ?, ?)",
                (session, name, str(path), kind),
            ).lastrowid
            self._log(db, session, "", "field added", field=number, name=name)
        return int(number or 0)

    def fields(self, session: str) -> list[dict[str, Any]]:
        """Return the fields of a session in the order of arrival."""
        return self._rows(
            "SELECT f.*, (SELECT COUNT(*) FROM cell c WHERE c.field = f.id) AS cells"
            " FROM field f WHERE session = ? ORDER BY id",
            session,
        )

    def field(self, session: str, number: int) -> dict[str, Any]:
        """Return one field of a session, or raise Missing."""
        return self._row(
            f"field {number} of this session",
            "SELECT * FROM field WHERE session = ? AND id = ?",
            session,
            number,
        )

    # the queue

    def next_job(self) -> dict[str, Any] | None:
        """Take the oldest field that waits, and mark it as being worked on."""
        with self._change() as db:
            row = db.execute(
                "SELECT id, session, path, kind, attempts FROM field WHERE state = 'queued'"
                " ORDER BY attempts, id LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            db.execute(
                "UPDATE field SET state = 'working', attempts = attempts + 1 WHERE id = ?",
                (row["id"],),
            )
        return dict(row) | {"attempts": row["attempts"] + 1}

    def requeue(self, number: int | None = None) -> None:
        """Let a field wait again; without a number, all that a killed process left half done."""
        with self._change() as db:
            if number is None:
                db.execute(
                    "UPDATE field SET state = 'queued', attempts = 0 WHERE state = 'working'"
                )
            else:
                db.execute("UPDATE field SET state = 'queued' WHERE id = ?", (number,))

    def retry(self, session: str, number: int, observer: str) -> None:
        """Try a field again that failed."""
        if self.field(session, number)["state"] != "failed":
            raise Conflict(f"field {number} has not failed; there is nothing to try again.")
        with self._change() as db:
            db.execute(
                "UPDATE field SET state = 'queued', reason = '', attempts = 0 WHERE id = ?",
                (number,),
            )
            self._log(db, session, observer, "field tried again", field=number)

    def fail(self, number: int, reason: str) -> None:
        """Record why a field could not be analyzed."""
        with self._change() as db:
            db.execute(
                "UPDATE field SET state = 'failed', reason = ? WHERE id = ?", (reason, number)
            )
            row = db.execute("SELECT session FROM field WHERE id = ?", (number,)).fetchone()
            if row:
                self._log(db, row["session"], "", "field failed", field=number, reason=reason)

    def finish(self, number: int, result: Mapping[str, Any]) -> None:
        """Keep the cells of a field. A field that is gone or done already is left as it is."""
        with self._change() as db:
            row = db.execute(
                "SELECT session FROM field WHERE id = ? AND state = 'working'", (number,)
            ).fetchone()
            if row is None:
                return
            for cell in result["cells"]:
                self._insert_cell(db, row["session"], number, cell)
            db.execute(
                "UPDATE field SET state = 'done', width = ?, height = ?, warnings = ? WHERE id = ?",
                (result["width"], result["height"], json.dumps(result["warnings"]), number),
            )
            self._log(
                db,
                row["session"],
                "",
                "field analyzed",
                field=number,
                cells=len(result["cells"]),
                model=result.get("model", ""),
            )

    @staticmethod
    def _insert_cell(
        db: sqlite3.Connection, session: str, number: int, cell: Mapping[str, Any]
    ) -> int:
        columns = [
            "x0", "y0", "x1", "y1", "outline", "nucleus", "type", "confidence", "probabilities",
            "nc_ratio", "novel", "author", "reference_cells", "crop",
        ]  # fmt: skip
        values = {"author": "", "novel": 0, "reference_cells": [], **cell}
        packed = [
            json.dumps(values.get(c)) if c in _JSON and values.get(c) is not None else values.get(c)
            for c in columns
        ]
        marks = ", ".join("?" for _ in range(len(columns) + 2))
        return int(
            db.execute(
                f"INSERT INTO cell (session, field, {', '.join(columns)}) VALUES ({marks})",
                (session, number, *packed),
            ).lastrowid
            or 0
        )

    def keep_references(self, cells: Iterable[Mapping[str, Any]]) -> None:
        """Keep the crops of reference cells that results point to."""
        with self._change() as db:
            db.executemany(
                "INSERT OR IGNORE INTO reference_cell VALUES (?, ?, ?, ?)",
                [(c["id"], c["type"], c["source"], c["crop"]) for c in cells],
            )

    def references(self) -> dict[str, str]:
        """Return the type of each reference cell."""
        return {r["id"]: r["type"] for r in self._rows("SELECT id, type FROM reference_cell")}

    def reference(self, name: str) -> dict[str, Any]:
        """Return one reference cell, or raise Missing."""
        return self._row("this reference cell", "SELECT * FROM reference_cell WHERE id = ?", name)

    # cells and labels

    def cells(
        self, session: str, observer: str, field: int | None = None, *, outlines: bool = False
    ) -> list[dict[str, Any]]:
        """Return the cells as an observer sees them: with their own labels and no others'.

        ``label`` is the observer's type, or what the model said where they gave none. Cells that
        another observer added are not among them: a second review is blind. Outlines are most of
        what is known of a cell, and few need them.
        """
        drawn = " c.outline, c.nucleus," if outlines else ""
        return self._rows(
            f"SELECT c.id, c.field, c.x0, c.y0, c.x1, c.y1,{drawn} c.type,"
            " c.confidence, c.probabilities, c.nc_ratio, c.novel, c.author, c.reference_cells,"
            " COALESCE(l.type, c.type) AS label, l.type IS NOT NULL AS reviewed,"
            " COALESCE(l.seen, 0) AS seen"
            " FROM cell c LEFT JOIN label l ON l.cell = c.id AND l.observer = ?"
            " WHERE c.session = ? AND c.author IN ('', ?) AND (? IS NULL OR c.field = ?)"
            " ORDER BY c.id",
            observer,
            session,
            observer,
            field,
            field,
        )

    def cell(self, session: str, number: int) -> dict[str, Any]:
        """Return one cell of a session with its crop, or raise Missing."""
        return self._row(
            f"cell {number} of this session",
            "SELECT * FROM cell WHERE session = ? AND id = ?",
            session,
            number,
        )

    def review(
        self,
        session: str,
        observer: str,
        cells: Sequence[int],
        type: str | None = None,  # noqa: A002
        reason: str = "",
    ) -> None:
        """Give cells a type (None: back to what the model said). One step of undo."""
        own = self._own(session, observer, cells)
        for number in cells:
            if number not in own:
                raise Missing(f"cell {number} of this session is not there.")
        before = [[n, own[n]["given"]] for n in cells]
        after = [[n, type] for n in cells]
        with self._change() as db:
            self._refuse_signed(db, session, observer)
            db.execute(
                "DELETE FROM action WHERE session = ? AND observer = ? AND undone = 1",
                (session, observer),
            )
            db.execute(
                "INSERT INTO action (session, observer, before, after) VALUES (?, ?, ?, ?)",
                (session, observer, json.dumps(before), json.dumps(after)),
            )
            self._set_labels(db, session, observer, after)
            self._log(
                db, session, observer, "labeled", cells=list(cells), type=type,
                before=[t if t is not None else own[n]["type"] for n, t in before],
                **({"reason": reason} if reason else {}),
            )  # fmt: skip

    def _own(self, session: str, observer: str, cells: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return type and own label of the cells that an observer may change."""
        rows = self._rows(
            "SELECT c.id, c.type, l.type AS given FROM cell c"
            " LEFT JOIN label l ON l.cell = c.id AND l.observer = ?"
            " WHERE c.session = ? AND c.author IN ('', ?)"
            " AND c.id IN (SELECT value FROM json_each(?))",
            observer,
            session,
            observer,
            json.dumps([int(n) for n in cells]),
        )
        return {row["id"]: row for row in rows}

    @staticmethod
    def _set_labels(
        db: sqlite3.Connection, session: str, observer: str, labels: Iterable[Sequence[Any]]
    ) -> None:
        db.executemany(
            "INSERT INTO label (session, observer, cell, type, seen) VALUES (?, ?, ?, ?, 1)"
            " ON CONFLICT (observer, cell) DO UPDATE SET type = excluded.type, seen = 1",
            [(session, observer, cell, type_) for cell, type_ in labels],
        )

    def see(self, session: str, observer: str, cells: Sequence[int]) -> None:
        """Record that an observer looked at cells without changing them."""
        own = self._own(session, observer, cells)
        new = [n for n in cells if n in own]
        with self._change() as db:
            db.executemany(
                "INSERT INTO label (session, observer, cell, type, seen) VALUES (?, ?, ?, NULL, 1)"
                " ON CONFLICT (observer, cell) DO UPDATE SET seen = 1",
                [(session, observer, n) for n in new],
            )
            self._log(db, session, observer, "seen", cells=new)

    def undo(self, session: str, observer: str, *, redo: bool = False) -> dict[int, str | None]:
        """Take back the last step (or do the last one again); return the labels it gave.

        None is no label: what the model said holds again.
        """
        order = "ASC" if redo else "DESC"
        with self._change() as db:
            self._refuse_signed(db, session, observer)
            row = db.execute(
                "SELECT * FROM action WHERE session = ? AND observer = ? AND undone = ?"
                f" ORDER BY id {order} LIMIT 1",
                (session, observer, int(redo)),
            ).fetchone()
            if row is None:
                return {}
            labels = json.loads(row["after" if redo else "before"])
            self._set_labels(db, session, observer, labels)
            db.execute("UPDATE action SET undone = ? WHERE id = ?", (int(not redo), row["id"]))
            self._log(db, session, observer, "redone" if redo else "undone", labels=labels)
        return dict(labels)

    def steps(self, session: str, observer: str) -> dict[str, int]:
        """Return how many steps can be undone and redone."""
        rows = self._rows(
            "SELECT undone, COUNT(*) AS n FROM action WHERE session = ? AND observer = ?"
            " GROUP BY undone",
            session,
            observer,
        )
        counts = {row["undone"]: row["n"] for row in rows}
        return {"undo": counts.get(0, 0), "redo": counts.get(1, 0)}

    def add_cell(self, session: str, observer: str, field: int, cell: Mapping[str, Any]) -> int:
        """Add a cell that the model missed. Undo puts it into "not counted"."""
        self.field(session, field)
        kind = cell["type"]
        with self._change() as db:
            self._refuse_signed(db, session, observer)
            number = self._insert_cell(
                db, session, field, {**cell, "type": NOT_COUNTED, "author": observer}
            )
            db.execute(
                "DELETE FROM action WHERE session = ? AND observer = ? AND undone = 1",
                (session, observer),
            )
            db.execute(
                "INSERT INTO action (session, observer, before, after) VALUES (?, ?, ?, ?)",
                (session, observer, json.dumps([[number, None]]), json.dumps([[number, kind]])),
            )
            self._set_labels(db, session, observer, [[number, kind]])
            self._log(
                db, session, observer, "cell added", cell=number, field=field, type=kind,
                box=[cell["x0"], cell["y0"], cell["x1"], cell["y1"]],
            )  # fmt: skip
        return number

    # signatures and the log

    def _refuse_signed(self, db: sqlite3.Connection, session: str, observer: str) -> None:
        if db.execute(
            "SELECT 1 FROM signature WHERE session = ? AND observer = ?", (session, observer)
        ).fetchone():
            raise Conflict(f"{observer} has signed; reopen the review before changing it.")

    def sign(self, session: str, observer: str, details: Mapping[str, Any]) -> None:
        """Keep the signature of an observer with what was signed."""
        with self._change() as db:
            self._refuse_signed(db, session, observer)
            db.execute(
                "INSERT INTO signature VALUES (?, ?, ?, ?)",
                (session, observer, time.time(), json.dumps(dict(details))),
            )
            self._log(db, session, observer, "signed", **details)

    def reopen(self, session: str, observer: str, reason: str) -> None:
        """Take the signature back, with the reason in the log."""
        with self._change() as db:
            if not db.execute(
                "DELETE FROM signature WHERE session = ? AND observer = ?", (session, observer)
            ).rowcount:
                raise Conflict(f"{observer} has not signed.")
            self._log(db, session, observer, "reopened", reason=reason)

    def signatures(self, session: str) -> list[dict[str, Any]]:
        """Return who signed what, and when."""
        return self._rows("SELECT * FROM signature WHERE session = ? ORDER BY time", session)

    def observers(self, session: str) -> list[str]:
        """Return everybody who labeled, looked at or signed cells of a session."""
        rows = self._rows(
            "SELECT observer FROM label WHERE session = ? UNION"
            " SELECT observer FROM signature WHERE session = ? ORDER BY 1",
            session,
            session,
        )
        return [row["observer"] for row in rows]

    def log(self, session: str) -> list[dict[str, Any]]:
        """Return every event of a session, oldest first."""
        return self._rows("SELECT * FROM log WHERE session = ? ORDER BY id", session)
