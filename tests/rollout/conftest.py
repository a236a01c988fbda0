import sys
from pathlib import Path

for folder in ("rollout", "train", "synth"):  # own_parts.py, made_up.py and tiny.py are shared by the suite
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))
