"""The user's guide to conflicts, made from the cases that are tested.

`python -m tests.sync.conflict_guide > docs/guide/conflicts.md` writes it.
"""

from __future__ import annotations

import sys

from tests.sync.conflict_cases import CASES, DIRECTORY, Act, Case, Tree

HEAD = """\
# When two people change the same thing

Ann and Bob share a folder. Both change it while their devices cannot reach each other; later they meet. What happens
then is decided by the same rules on every device, whatever the order in which news arrives and whatever their clocks
say, so that all devices show the same files. Three things are always so:

- **Nothing that somebody wrote is lost.** Where two versions cannot both have a name, one has it and the other lies
  beside it as a *conflict copy*: `plan (conflict 3f9a 01b2c3d4).txt`. The first four digits tell which device wrote it.
- **A deletion removes only what its user had seen.** What somebody else wrote meanwhile stays.
- **A conflict copy is an ordinary file.** It may be opened, edited, renamed and deleted, and is synced like any other.

## What happens in each case

Every row is also a test. “text” is what a file holds; `…` stands for the digits in the name of a conflict copy.
"""

TAIL = """
## Being told

```
meshsync status               counts the conflicts
meshsync conflicts            lists every version with its path, device, time and size; exit code 6 if there are any
meshsync why PATH             says in a sentence or two what is the matter with a file, and what to do
```

## Ending a conflict

`mine` is what lies at the file's own path, `theirs` is the conflict copy, whoever wrote them.

| command | what is there afterwards |
|---|---|
| `meshsync resolve plan.txt --keep mine` | `plan.txt` as it is; the copy is removed |
| `meshsync resolve plan.txt --keep theirs` | `plan.txt` with the content of the copy; the copy is removed |
| `meshsync resolve plan.txt --keep both` | `plan.txt` as it is, and the copy under a plain name: `plan (desk).txt` |
| `meshsync resolve plan.txt --keep merged` | `plan.txt` with the changes of both; the copy is removed |

- **Merging** is for text files. It needs the version that both came from, on this device, on one that can be reached or
  at a relay. Where both changed the same lines nothing is changed and the command ends with exit code 6; with
  `--to FILE` it writes the text, with both versions of those lines between markers, into a new file for you to edit.
- **Several copies** of one file: name the copy instead of the file. With `theirs` the other copies stay as ordinary
  files.
- **By hand** works as well: edit, rename or delete the files as you like. Once the file or the copy was changed after
  the conflict, the copy counts as an ordinary file and is listed no more.
- **Undoing:** what lost stays in the history, and on this device in `.meshsync/kept` until you delete it there. The
  command prints what to type to bring it back: `meshsync restore PATH --version ID`.
- A file that somebody changes at the same moment is left as it is, and the command says so (exit code 5): type it
  again.
"""


def render() -> str:
    """Return the page."""
    rows = [_row(case) for case in CASES]
    header = ["| case | before | Ann | Bob | both show then | in words |", "|---|---|---|---|---|---|"]
    return "\n".join([HEAD, *header, *rows]) + "\n" + TAIL


def _row(case: Case) -> str:
    ann, bob = (_rounds([acts[who] for acts in case.rounds]) for who in (0, 1))
    return f"| {case.name} | {_tree(case.before)} | {ann} | {bob} | {_tree(case.after)} | {case.note} |"


def _rounds(rounds: list[tuple[Act, ...]]) -> str:
    return "; once they met: ".join(", ".join(act.words for act in acts) for acts in rounds)


def _tree(tree: Tree) -> str:
    shown = {name: text for name, text in tree.items() if text != DIRECTORY or not _filled(tree, name)}
    return "<br>".join(f"`{name}`: {_words(text)}" for name, text in shown.items()) or "nothing"


def _filled(tree: Tree, name: str) -> bool:
    return any(other.startswith(name + "/") for other in tree)


def _words(text: str) -> str:
    if text == DIRECTORY:
        return text
    if text.startswith("-> "):
        return f"a link to `{text[3:]}`"
    content, comma, more = text.partition(", ")
    return f"“{content}”{comma}{more}"


if __name__ == "__main__":
    sys.stdout.write(render())
