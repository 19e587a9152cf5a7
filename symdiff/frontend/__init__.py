"""The front end: expressions over NumPy, text, SymPy and traced Python functions become programs.

Importing any module of this package fills the table of NumPy functions that expressions look their meaning up in.
"""

from symdiff.frontend import numpy_functions

__all__ = ["numpy_functions"]
