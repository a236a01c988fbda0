import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # order_table.py and the tables are shared by the tests of this folder
