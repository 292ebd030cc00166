"""Runs a notebook's cells without Jupyter, and on the command line writes what they show into it.

    python docs/notebook.py docs/scan.ipynb FOLDER

FOLDER is where they run: it holds `my-scan`.
"""

import ast
import base64
import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any


def run(notebook: dict[str, Any]) -> dict[str, Any]:
    """Run the code cells in their order, in the working directory, and put what they show in their outputs.

    Returns the variables that they leave. Raises what a cell raises.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, 1):
        tree, value = ast.parse("".join(cell["source"])), None
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(compile(tree, f"cell {number}", "exec"), names)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
        cell["outputs"] = _outputs(said.getvalue(), value, number)
        cell["execution_count"] = number
    return names


def _outputs(said: str, value: Any, number: int) -> list[dict[str, Any]]:
    outputs: list[dict[str, Any]] = []
    if said:
        outputs.append({"output_type": "stream", "name": "stdout", "text": said.splitlines(keepends=True)})
    if value is not None:
        data = {"text/plain": [repr(value)]}
        if hasattr(value, "save"):  # a picture
            value.quantize(64).save(png := io.BytesIO(), "PNG", optimize=True)
            data = {"image/png": base64.b64encode(png.getvalue()).decode(), "text/plain": ["a picture"]}
        outputs.append({"output_type": "execute_result", "metadata": {}, "data": data, "execution_count": number})
    return outputs


def main() -> None:
    path, folder = (Path(word).absolute() for word in sys.argv[1:])
    notebook = json.loads(path.read_text())
    os.chdir(folder)
    run(notebook)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
