"""The end of an entry's function, as LLVM IR text in the notation of `entry_ir`: results boxed, or released on failure.

Goes on where `entry_run.RUN_TEXT` stops, in the same function.
"""

RETURN_TEXT = """; ---- scalars become Python numbers, several results a tuple

numbers.answer:
  %numbers.single = word i64, %plan[$P_SINGLE]
  %one.number = icmp ne i64 %numbers.single, 0
  br i1 %one.number, label %number.answer, label %numbers.tuple

number.answer:
  %number.only = load double, ptr %result.scratch
  %number.boxed = call ptr @PyFloat_FromDouble(double %number.only)
  ret ptr %number.boxed

numbers.tuple:
  %numbers = call ptr @PyTuple_New(i64 %results)
  %no.numbers = icmp eq ptr %numbers, null
  br i1 %no.numbers, label %raise, label %numbers.fill

numbers.fill:
  %numbers.items = getelementptr i8, ptr %numbers, i64 $TUPLE_ITEMS
  br label %numbers.item

numbers.item:                                    ; a tuple that is not full yet can be released as it is
  %k = phi i64 [ 0, %numbers.fill ], [ %k.next, %numbers.put ]
  %k.from = getelementptr double, ptr %result.scratch, i64 %k
  %k.value = load double, ptr %k.from
  %k.boxed = call ptr @PyFloat_FromDouble(double %k.value)
  %k.none = icmp eq ptr %k.boxed, null
  br i1 %k.none, label %numbers.fail, label %numbers.put

numbers.put:
  %k.to = getelementptr ptr, ptr %numbers.items, i64 %k
  store ptr %k.boxed, ptr %k.to
  %k.next = add nuw i64 %k, 1
  %k.more = icmp ult i64 %k.next, %results
  br i1 %k.more, label %numbers.item, label %numbers.done

numbers.done:
  ret ptr %numbers

numbers.fail:
  call void @Py_DecRef(ptr %numbers)
  ret ptr null

box.start:
  br i1 %no.results, label %answer, label %box

box:
  %b = phi i64 [ 0, %box.start ], [ %b.next, %box.next ]
  %brec = phi ptr [ %result.rec, %box.start ], [ %brec.next, %box.next ]
  %brank = load i64, ptr %brec, !invariant.load !0
  %b.array = icmp ne i64 %brank, 0
  br i1 %b.array, label %box.next, label %box.scalar

box.scalar:
  %bdtype = word i64, %brec[1]
  %bfrom = getelementptr i64, ptr %result.scratch, i64 %b
  switch i64 %bdtype, label %box.bool [
    i64 0, label %box.f64
    i64 1, label %box.f32
    i64 2, label %box.i64
  ]

box.f64:
  %bf64 = load double, ptr %bfrom
  %of64 = call ptr @PyFloat_FromDouble(double %bf64)
  br label %box.made

box.f32:
  %bf32 = load float, ptr %bfrom
  %bf32.wide = fpext float %bf32 to double
  %of32 = call ptr @PyFloat_FromDouble(double %bf32.wide)
  br label %box.made

box.i64:
  %bi64 = load i64, ptr %bfrom
  %oi64 = call ptr @PyLong_FromLongLong(i64 %bi64)
  br label %box.made

box.bool:
  %bbool = load i8, ptr %bfrom
  %bbool.set = icmp ne i8 %bbool, 0
  %bbool.long = zext i1 %bbool.set to i64
  %obool = call ptr @PyBool_FromLong(i64 %bbool.long)
  br label %box.made

box.made:
  %boxed = phi ptr [ %of64, %box.f64 ], [ %of32, %box.f32 ], [ %oi64, %box.i64 ], [ %obool, %box.bool ]
  %box.to = getelementptr ptr, ptr %objects, i64 %b
  store ptr %boxed, ptr %box.to
  %unboxed = icmp eq ptr %boxed, null
  br i1 %unboxed, label %release, label %box.next

box.next:
  %brec.next = getelementptr i64, ptr %brec, i64 3
  %b.next = add nuw i64 %b, 1
  %b.more = icmp ult i64 %b.next, %results
  br i1 %b.more, label %box, label %answer

answer:
  %single = word i64, %plan[$P_SINGLE]
  %is.single = icmp ne i64 %single, 0
  br i1 %is.single, label %answer.single, label %answer.tuple

answer.single:
  %only = load ptr, ptr %objects
  ret ptr %only

answer.tuple:
  %tuple = call ptr @PyTuple_New(i64 %results)
  %no.tuple = icmp eq ptr %tuple, null
  br i1 %no.tuple, label %release, label %answer.fill

answer.fill:
  %items = getelementptr i8, ptr %tuple, i64 $TUPLE_ITEMS
  br i1 %no.results, label %answer.done, label %answer.item

answer.item:
  %i = phi i64 [ 0, %answer.fill ], [ %i.next, %answer.item ]
  %item.from = getelementptr ptr, ptr %objects, i64 %i
  %item = load ptr, ptr %item.from
  %item.to = getelementptr ptr, ptr %items, i64 %i
  store ptr %item, ptr %item.to
  %i.next = add nuw i64 %i, 1
  %i.more = icmp ult i64 %i.next, %results
  br i1 %i.more, label %answer.item, label %answer.done

answer.done:
  ret ptr %tuple

; ---- failures: release what was made, then report

release:                                         ; where making result r failed, that one and later ones do not exist
  %made.count = phi i64 [ %r, %make ], [ %results, %box.made ], [ %results, %answer.tuple ],
                        [ %results, %ran.some ]
  %retry = phi i1 [ false, %make ], [ false, %box.made ], [ false, %answer.tuple ], [ true, %ran.some ]
  %nothing.made = icmp eq i64 %made.count, 0
  br i1 %nothing.made, label %released, label %release.one

release.one:
  %d = phi i64 [ 0, %release ], [ %d.next, %release.one ]
  %dead.from = getelementptr ptr, ptr %objects, i64 %d
  %dead = load ptr, ptr %dead.from
  call void @Py_DecRef(ptr %dead)                ; does nothing for null
  %d.next = add nuw i64 %d, 1
  %d.more = icmp ult i64 %d.next, %made.count
  br i1 %d.more, label %release.one, label %released

released:
  br i1 %retry, label %fallback, label %raise

raise:
  ret ptr null

fallback:
  %python = word ptr, %plan[$P_FALLBACK]
  %result.python = call ptr @PyObject_Vectorcall(ptr %python, ptr %args, i64 %nargsf, ptr %names)
  ret ptr %result.python
}
"""
