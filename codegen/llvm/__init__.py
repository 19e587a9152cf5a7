"""LLVM IR as text: functions under construction, scalar operations, and the routines that all programs share."""
