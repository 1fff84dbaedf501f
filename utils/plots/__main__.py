"""python -m utils.plots runs/train/exp     # draws all of a run's pictures again"""

from utils.core.script import run_script
from utils.plots.run import main

if __name__ == "__main__":
    run_script(main)
