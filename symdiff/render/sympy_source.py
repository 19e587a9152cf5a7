from symdiff.ir.graph import Function


def sympy_source(function: Function) -> str:
    return ""
def sympy_code(function: Function, name: str) -> str:
    return ""
