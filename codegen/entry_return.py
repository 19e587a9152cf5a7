"""The end of an entry's function, as LLVM IR text in the notation of `entry_ir`: results boxed, or released on failure.

Goes on where `entry_run.RUN_TEXT` stops, in the same function.
"""

RETURN_TEXT = """; ---- scalars become Python numbers, several results a tuple

numbers.answer:
  %numbers.nested = word ptr, %plan[$P_NESTED]
  %numbers.flat = icmp eq ptr %numbers.nested, null
  br i1 %numbers.flat, label %numbers.plain, label %numbers.nest

numbers.nest:
  %c = phi i64 [ 0, %numbers.answer ], [ %c.next, %numbers.nest.put ]
  %c.from = getelementptr double, ptr %result.scratch, i64 %c
  %c.value = load double, ptr %c.from
  %c.boxed = call ptr @PyFloat_FromDouble(double %c.value)
  %c.none = icmp eq ptr %c.boxed, null
  br i1 %c.none, label %release, label %numbers.nest.put

numbers.nest.put:
  %c.to = getelementptr ptr, ptr %objects, i64 %c
  store ptr %c.boxed, ptr %c.to
  %c.next = add nuw i64 %c, 1
  %c.more = icmp ult i64 %c.next, %results
  br i1 %c.more, label %numbers.nest, label %nest.start

numbers.plain:
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
  %nested = word ptr, %plan[$P_NESTED]
  %flat = icmp eq ptr %nested, null
  br i1 %flat, label %answer.flat, label %nest.start

answer.flat:
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

; ---- nested tuples: what is made waits where the objects taken so far were, in front of those to come

nest.start:
  %nested.words = phi ptr [ %numbers.nested, %numbers.nest.put ], [ %nested, %answer ]
  %words.more = load i64, ptr %nested.words, !invariant.load !0
  br label %nest

nest:
  %nw = phi i64 [ 0, %nest.start ], [ %nw.next, %nest.next ]
  %top = phi i64 [ 0, %nest.start ], [ %top.next, %nest.next ]
  %taken.so.far = phi i64 [ 0, %nest.start ], [ %taken.next, %nest.next ]
  %nw.next = add nuw i64 %nw, 1
  %nest.from = getelementptr i64, ptr %nested.words, i64 %nw.next
  %nest.word = load i64, ptr %nest.from, !invariant.load !0
  %takes = icmp slt i64 %nest.word, 0
  br i1 %takes, label %nest.take, label %nest.tuple

nest.take:
  %take.from = getelementptr ptr, ptr %objects, i64 %taken.so.far
  %take = load ptr, ptr %take.from
  %take.to = getelementptr ptr, ptr %objects, i64 %top
  store ptr %take, ptr %take.to
  %take.top = add nuw i64 %top, 1
  %take.taken = add nuw i64 %taken.so.far, 1
  br label %nest.next

nest.tuple:
  %group = call ptr @PyTuple_New(i64 %nest.word)
  %no.group = icmp eq ptr %group, null
  br i1 %no.group, label %nest.fail, label %nest.fill

nest.fill:
  %group.items = getelementptr i8, ptr %group, i64 $TUPLE_ITEMS
  %group.first = sub i64 %top, %nest.word
  %group.at = getelementptr ptr, ptr %objects, i64 %group.first
  br label %nest.item

nest.item:
  %g = phi i64 [ 0, %nest.fill ], [ %g.next, %nest.item ]
  %g.from = getelementptr ptr, ptr %group.at, i64 %g
  %g.object = load ptr, ptr %g.from
  %g.to = getelementptr ptr, ptr %group.items, i64 %g
  store ptr %g.object, ptr %g.to
  %g.next = add nuw i64 %g, 1
  %g.more = icmp ult i64 %g.next, %nest.word
  br i1 %g.more, label %nest.item, label %nest.put

nest.put:
  store ptr %group, ptr %group.at
  %put.top = add nuw i64 %group.first, 1
  br label %nest.next

nest.next:
  %top.next = phi i64 [ %take.top, %nest.take ], [ %put.top, %nest.put ]
  %taken.next = phi i64 [ %take.taken, %nest.take ], [ %taken.so.far, %nest.put ]
  %nest.more = icmp ult i64 %nw.next, %words.more
  br i1 %nest.more, label %nest, label %nest.done

nest.done:
  %whole = load ptr, ptr %objects
  ret ptr %whole

nest.fail:                                       ; close the gap before releasing all
  %f = phi i64 [ %taken.so.far, %nest.tuple ], [ %f.next, %nest.fail.one ]
  %f.to.number = phi i64 [ %top, %nest.tuple ], [ %f.to.next, %nest.fail.one ]
  %f.more = icmp ult i64 %f, %results
  br i1 %f.more, label %nest.fail.one, label %release

nest.fail.one:
  %f.from = getelementptr ptr, ptr %objects, i64 %f
  %f.object = load ptr, ptr %f.from
  %f.to = getelementptr ptr, ptr %objects, i64 %f.to.number
  store ptr %f.object, ptr %f.to
  %f.next = add nuw i64 %f, 1
  %f.to.next = add nuw i64 %f.to.number, 1
  br label %nest.fail

; ---- failures: release what was made, then report

release:                                         ; where making result r failed, that one and later ones do not exist
  %made.count = phi i64 [ %r, %make ], [ %results, %box.made ], [ %results, %answer.tuple ],
                        [ %f.to.number, %nest.fail ], [ %c, %numbers.nest ], [ %results, %ran.some ]
  %retry = phi i1 [ false, %make ], [ false, %box.made ], [ false, %answer.tuple ],
                  [ false, %nest.fail ], [ false, %numbers.nest ], [ true, %ran.some ]
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
