"""The twin of the agent's process: same options, relays from the same file, same ready line; serves an `AgentTwin`.

`--name` chooses a behaviour: `refuses` ends with words on stderr, `babbles` prints something else than a ready line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from meshsync.agent import config
from meshsync.agent.home import Home
from tests.support.agent_twin import serving


def main(words: list[str]) -> None:
    home = Path(words[words.index("--home") + 1])
    name = words[words.index("--name") + 1] if "--name" in words else "laptop"
    if name == "refuses":
        raise SystemExit("cannot listen: address in use")
    if name == "babbles":
        print("hello", flush=True)
    with serving(home) as twin:
        (home / "options.json").write_text(json.dumps([*words, *config.load(Home(home).config).relays]))
        device = {"id": "d0" * 32, "name": twin.name}
        ready = {"schema": 1, "ready": True, "device": device, "socket": str(Home(home).socket), "port": 1}
        print(json.dumps(ready), flush=True)
        twin.ended.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
