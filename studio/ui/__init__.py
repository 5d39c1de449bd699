"""The page. It imports neither torch nor the worker half, so that it opens in seconds."""

from studio.ui.build import build_ui, launch_options

__all__ = ["build_ui", "launch_options"]
