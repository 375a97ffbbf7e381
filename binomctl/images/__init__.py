"""Few-shot image data: reading any of the usual layouts, safely, once; then episodes at once."""
