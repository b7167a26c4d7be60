"""Train a model: python scripts/train.py CONFIG.yaml [key=value ...] [--resume] [--overwrite]

Beyond one process: accelerate launch scripts/train.py CONFIG.yaml ...
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from pharmatriples.arguments import load_config
from pharmatriples.training import train


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", metavar="CONFIG.yaml", help="a file of configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values that win over the file's")
    parser.add_argument("--resume", action="store_true", help="go on from the last whole checkpoint of a stopped run")
    parser.add_argument("--overwrite", action="store_true", help="replace the model that is in output_dir")
    options = parser.parse_intermixed_args(arguments)
    try:
        config = load_config(options.config, options.overrides)
        metrics = train(config, resume=options.resume, overwrite=options.overwrite)
    except (ValueError, OSError, OverflowError, RuntimeError) as error:  # also of a device without memory
        print(f"train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"train: stopped; go on with: python scripts/train.py {options.config} ... --resume", file=sys.stderr)
        return 130
    if os.environ.get("RANK", "0") == "0":  # one of the processes that train together
        print(
            f"{config.output_dir}: "
            + ", ".join(f"{name[5:]} {value:.3f}" for name, value in metrics.items() if name.startswith("eval_"))
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
