"""Label Refinery: a MONAI Label server that turns rough masks into expert labels and corrections into better models."""

import os

# MONAI Label's loader throws every module called ``lib`` out of the module table before it runs an app
# (utils/others/class_utils.py), which would leave two copies of each of our classes. It asks this at call time.
os.environ.setdefault("MONAI_LABEL_RELOAD_APP_LIB", "false")

__version__ = "0.1.0"
