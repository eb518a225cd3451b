#!/usr/bin/env python3
"""Freezes what pandas reads in delimited text for `src/base/table/tests.rs`.

Each case is a text and what parts its cells; the result is pandas' names of columns and rows, or that it
refuses. Every cell is text (no guessing of numbers or of missing values), spaces around cells are
stripped as ours are, and an empty name is an empty text (pandas makes up "Unnamed: 0").

Needs: pandas. From the repository's root:
    python scripts/oracle/tables.py tests/fixtures/tables/pandas.json
"""

import io
import json
import sys
from pathlib import Path

import pandas as pd

COMMA = [
    "Prompt\ndoctor\nnurse\n",
    "Prompt\rdoctor\rnurse\r",
    "Prompt\r\ndoctor\r\nnurse",
    "\ufeffPrompt,id\ndoctor,1\n",
    'Prompt,id\n"chef, head",1\n',
    'Prompt,id\n"a ""good"" chef",1\n""""\n"",3\n',
    'Prompt,id\n"two\nlines",1\nnurse,2\n',
    'Prompt,id\n"two\rlines",1\rnurse,2\r',
    'Prompt,id\n"two\r\nlines"  ,1\nnurse,2\n',
    'Prompt,id\na 5" nail,1\na "quoted" word,"2"\n',
    'Prompt,id\n"quoted" and not,1\n"a"b"c",2\n',
    'Prompt,id\n  "spaces, before" , "1"\n  doctor  ,  2\n',
    "Prompt,id\n\n   \ndoctor,1\n\n",
    "Prompt,id\ndoctor\nnurse,2\n",
    "Prompt,id\ndoctor,\n,2\n",
    "a,b\nä,日本\n",
    'Prompt\n"a photo of a doctor\nnurse\nchef\npilot\n',
    'Prompt\n"a photo of a doctor\r\nnurse\r\n',
    'Prompt\ndoctor\n"nurse\n',
    "Prompt,id\ndoctor,1\nnurse,2,3\n",
    'Prompt\n"\n',
]
TAB = [
    "Prompt\tid\ndoctor\t1\n",
    'Prompt\tid\n"tab\tinside"\t1\nchef, head\t2\n',
    "Prompt\tid\rdoctor\t1\r",
    "Prompt\tid\n\t1\ndoctor\t\n\t\n",
    'Prompt\tid\n"doctor\t1\nnurse\t2\n',
]


def frozen(text, delimiter):
    case = {"text": text, "delimiter": delimiter}
    try:
        table = pd.read_csv(io.StringIO(text.removeprefix("\ufeff")), sep=delimiter, dtype=str,
                            keep_default_na=False, skipinitialspace=True, index_col=False)
    except pd.errors.ParserError as error:
        return case | {"refused": str(error)}
    rows = [[str(cell).strip() if isinstance(cell, str) else "" for cell in row]
            for row in table.itertuples(index=False)]
    return case | {"columns": [name.strip() for name in table.columns], "rows": rows}


def main():
    cases = [frozen(text, ",") for text in COMMA] + [frozen(text, "\t") for text in TAB]
    lines = ",\n".join(json.dumps(case) for case in cases)
    Path(sys.argv[1]).write_text(f'{{"pandas": "{pd.__version__}", "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
