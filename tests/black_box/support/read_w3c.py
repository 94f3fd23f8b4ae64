"""Reads W3C extended log files as a stranger would, and tells their rows as JSON.

With `lars` (PyPI), the log analysis library of people who run IIS, the rows are its own; without
it they are read after the working draft "Extended Log File Format" and this is said on stderr.
A query may follow the file name: SQL over the table `log`, whose columns are the fields.
"""

import json
import re
import sqlite3
import sys

try:
    from lars import iis
except ImportError:
    iis = None


def by_lars(text):
    """Fields and rows as lars finds them; whatever it warns of is an error here."""
    import io
    import warnings

    warnings.simplefilter("error")
    with iis.IISSource(io.StringIO(text)) as source:
        found = [list(row) for row in source]
        return source.fields, [[plain(value) for value in row] for row in found]


def plain(value):
    """A value of one of lars' types as text or number."""
    if value is None or isinstance(value, (int, float)):
        return value
    return str(value)


def by_draft(text):
    """Fields and rows after the working draft, as IIS writes it."""
    fields, rows = [], []
    for line in text.splitlines():
        directive = re.fullmatch(r"#\s*([A-Za-z-]+):\s*(.*)", line)
        if directive:
            if directive.group(1) == "Fields":
                fields = directive.group(2).split()
            continue
        values = re.split(r"[ \t]+", line)
        if line.startswith("#") or len(values) != len(fields):
            raise ValueError("not a row: %r" % line)
        rows.append([read(name, value) for name, value in zip(fields, values)])
    return fields, rows


NUMBERS = {"s-port", "sc-status", "sc-substatus", "sc-win32-status", "sc-bytes", "cs-bytes",
           "time-taken", "c-port"}


def read(name, value):
    if value == "-":
        return None
    return int(value) if name in NUMBERS else value


def main():
    with open(sys.argv[1], encoding="ascii", newline="\n") as source:
        text = source.read()
    if iis is None:
        print("NOT INDEPENDENT: lars cannot be installed here", file=sys.stderr)
    fields, rows = by_lars(text) if iis else by_draft(text)
    # Whatever reads a row must find as many values as the file says there are fields.
    listed = re.findall(r"^#Fields: (.*)$", text, re.M)[-1].split(" ")
    if fields != listed or any(len(row) != len(listed) for row in rows):
        raise ValueError("%r is not %r" % (fields, listed))
    if len(sys.argv) > 2:
        names = ", ".join('"%s"' % name for name in fields)
        table = sqlite3.connect(":memory:")
        table.execute("CREATE TABLE log (%s)" % names)
        marks = ", ".join("?" * len(fields))
        table.executemany("INSERT INTO log VALUES (%s)" % marks, rows)
        print(json.dumps(table.execute(sys.argv[2]).fetchall()))
    else:
        print(json.dumps([dict(zip(fields, row)) for row in rows]))


main()
