"""Whole notebooks: run one headless, with stand-ins for what isn't here, and judge what came out of it."""
