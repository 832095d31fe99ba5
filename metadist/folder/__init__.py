"""The run folder: what it was made from (`run_folder`), one driver at a time (`ownership`), the mark of a failure for
good (`failed`). Its checkpoints: `metadist.checkpoint`; its journal: `metadist.tracking`."""
