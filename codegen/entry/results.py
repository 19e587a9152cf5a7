"""The end of an entry's function, as LLVM IR text in the notation of `entry.ir`: the answer, or release on failure.

Goes on where `codegen.entry.run.RUN_TEXT` stops, in the same function; what it calls is in `codegen.entry.objects`.
"""

RETURN_TEXT = """; ---- numbers that are no floats become objects; the answer is kept for a later call

answer:
  %answer.results = word i64, %plan[$P_RESULTS]
  %nothing = icmp eq i64 %answer.results, 0
  br i1 %nothing, label %answer.empty, label %answer.some

answer.empty:
  %empty = call ptr @PyTuple_New(i64 0)
  ret ptr %empty

answer.some:
  %objects.word = word i64, %plan[$P_OBJECTS]
  %objects = getelementptr i64, ptr %dims, i64 %objects.word
  %boxes = word i64, %plan[$P_BOXES]
  %no.boxes = icmp eq i64 %boxes, 0
  br i1 %no.boxes, label %answer.made, label %answer.boxes

answer.boxes:
  %unboxed = call preserve_mostcc i32 @box_numbers(ptr %plan, ptr %dims)
  %boxed.all = icmp eq i32 %unboxed, 0
  br i1 %boxed.all, label %answer.made, label %release.raise

answer.made:
  %single = word i64, %plan[$P_SINGLE]
  %answer.at = getelementptr ptr, ptr %objects, i64 %single
  %whole = load ptr, ptr %answer.at
  %placed = icmp ne ptr %place, null
  br i1 %placed, label %answer.look, label %answer.done

answer.look:
  %there = load ptr, ptr %place
  %kept.already = icmp eq ptr %there, %whole
  br i1 %kept.already, label %answer.done, label %answer.keep

answer.keep:
  call preserve_mostcc void @keep(ptr %plan, ptr %place, ptr %whole)
  br label %answer.done

answer.done:
  ret ptr %whole

; ---- failures: release the answer as far as it was made, then report

release.raise:
  call preserve_mostcc void @release_answer(ptr %plan, ptr %dims)
  ret ptr null

release.retry:
  call preserve_mostcc void @release_answer(ptr %plan, ptr %dims)
  br label %fallback

fallback:
  %python = word ptr, %plan[$P_FALLBACK]
  %result.python = call ptr @PyObject_Vectorcall(ptr %python, ptr %args, i64 %nargsf, ptr %names)
  ret ptr %result.python
}
"""
