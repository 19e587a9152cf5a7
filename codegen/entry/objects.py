"""What the entry of a function calls to make, keep and release objects, as LLVM IR text in the notation of `entry.ir`.

`objects` are the words of the frame that list the bases of results (see `codegen.entry.run`); a result's cell is where
the pointer to it goes.
"""

OBJECTS_TEXT = """
; Numbers that are no float64 become objects; -1 where there is no memory.
define internal preserve_mostcc i32 @box_numbers(ptr %plan, ptr %frame) noinline nounwind {
entry:
  %objects.word = word i64, %plan[$P_OBJECTS]
  %objects = getelementptr i64, ptr %frame, i64 %objects.word
  %results = word i64, %plan[$P_RESULTS]
  %result.word = word i64, %plan[$P_RESULT_RECORDS]
  %result.rec = getelementptr i64, ptr %plan, i64 %result.word
  %params = word i64, %plan[$P_PARAMS]
  %data.word = word i64, %plan[$P_DATA]
  %data = getelementptr ptr, ptr %frame, i64 %data.word
  %result.data = getelementptr ptr, ptr %data, i64 %params
  br label %box

box:
  %b = phi i64 [ 0, %entry ], [ %b.next, %box.next ]
  %brec = phi ptr [ %result.rec, %entry ], [ %brec.next, %box.next ]
  %brank = load i64, ptr %brec, !invariant.load !0
  %bdtype = word i64, %brec[1]
  %b.kind = or i64 %brank, %bdtype
  %b.array = icmp ne i64 %brank, 0
  %b.float = icmp eq i64 %b.kind, 0
  %b.there = or i1 %b.array, %b.float
  br i1 %b.there, label %box.next, label %box.scalar

box.scalar:
  %bfrom.at = getelementptr ptr, ptr %result.data, i64 %b
  %bfrom = load ptr, ptr %bfrom.at
  switch i64 %bdtype, label %box.bool [
    i64 1, label %box.f32
    i64 2, label %box.i64
  ]

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
  %boxed = phi ptr [ %of32, %box.f32 ], [ %oi64, %box.i64 ], [ %obool, %box.bool ]
  %unboxed = icmp eq ptr %boxed, null
  br i1 %unboxed, label %fail, label %box.put

box.put:
  %bwithin = word i64, %brec[3]
  %bbyte = word i64, %brec[4]
  %bbase.at = getelementptr ptr, ptr %objects, i64 %bwithin
  %bbase = load ptr, ptr %bbase.at
  %bcell = getelementptr i8, ptr %bbase, i64 %bbyte
  %bbefore = load ptr, ptr %bcell
  store ptr %boxed, ptr %bcell
  call void @Py_DecRef(ptr %bbefore)
  br label %box.next

box.next:
  %brec.next = getelementptr i64, ptr %brec, i64 5
  %b.next = add nuw i64 %b, 1
  %b.more = icmp ult i64 %b.next, %results
  br i1 %b.more, label %box, label %done

done:
  ret i32 0

fail:
  ret i32 -1
}

; A new number or array for a cell of the answer; null where there is no memory. It is in its place before the old one
; is released, which may call back.
define internal preserve_mostcc ptr @new_float(ptr %cell) noinline nounwind {
  %made = call ptr @PyFloat_FromDouble(double 0.0)
  %unmade = icmp eq ptr %made, null
  br i1 %unmade, label %done, label %put

put:
  %before = load ptr, ptr %cell
  store ptr %made, ptr %cell
  call void @Py_DecRef(ptr %before)              ; does nothing for null
  br label %done

done:
  ret ptr %made
}

define internal preserve_mostcc ptr @new_array(
  ptr %plan, ptr %objects, ptr %cell, ptr %rec, ptr %shape
) noinline nounwind {
entry:
  %rank = word i32, %rec[0]
  %descr = word ptr, %rec[2]
  call void @Py_IncRef(ptr %descr)               ; the constructor takes a reference to it, even when it fails
  %made = call ptr @symdiff_new_array(ptr @symdiff_ndarray_type, ptr %descr, i32 %rank, ptr %shape, ptr null,
                                      ptr null, i32 0, ptr null)
  %unmade = icmp eq ptr %made, null
  br i1 %unmade, label %done, label %put

put:
  %before = load ptr, ptr %cell
  store ptr %made, ptr %cell
  call void @Py_DecRef(ptr %before)
  %fresh = icmp eq ptr %before, null
  %single = word i64, %plan[$P_SINGLE]
  %bare = icmp ne i64 %single, 0
  %no.kept = or i1 %fresh, %bare
  br i1 %no.kept, label %done, label %axis

axis:                                            ; something large in a kept tuple: keep that no longer
  %a = phi i64 [ 0, %put ], [ %a.next, %axis ]
  %elements = phi i64 [ 1, %put ], [ %elements.next, %axis ]
  %size.at = getelementptr i64, ptr %shape, i64 %a
  %size = load i64, ptr %size.at
  %elements.next = mul i64 %elements, %size
  %a.next = add nuw i64 %a, 1
  %a.32 = trunc i64 %a.next to i32
  %more = icmp ult i32 %a.32, %rank
  br i1 %more, label %axis, label %counted

counted:
  %large = icmp ugt i64 %elements.next, $KEPT_ELEMENTS
  br i1 %large, label %drop, label %done

drop:
  %whole = load ptr, ptr %objects
  call preserve_mostcc void @drop_kept(ptr %plan, ptr %whole)
  br label %done

done:
  ret ptr %made
}

; What holds the results, without them: tuples, each in its place in an outer one, or one word. -1 where there is no
; memory. Collections do not look at the tuples: they are not complete yet, and what they will hold refers to nothing.
define internal preserve_mostcc i32 @new_tuples(ptr %plan, ptr %result.rec, ptr %objects) noinline nounwind {
entry:
  %tuples = word i64, %plan[$P_TUPLES]
  %bare = icmp eq i64 %tuples, 0
  br i1 %bare, label %one, label %tuple

one:
  %cell.one = getelementptr ptr, ptr %objects, i64 1
  store ptr %cell.one, ptr %objects
  store ptr null, ptr %cell.one
  ret i32 0

tuple:
  %t = phi i64 [ 0, %entry ], [ %t.next, %tuple.next ]
  %rec.end = phi ptr [ %result.rec, %entry ], [ %rec, %tuple.next ]
  %rec = getelementptr i64, ptr %rec.end, i64 -3
  %count = word i64, %rec[0]
  %made = call ptr @PyTuple_New(i64 %count)
  %to = getelementptr ptr, ptr %objects, i64 %t
  store ptr %made, ptr %to
  %unmade = icmp eq ptr %made, null
  br i1 %unmade, label %fail, label %unseen

unseen:
  call void @PyObject_GC_UnTrack(ptr %made)
  %outer = icmp eq i64 %t, 0
  br i1 %outer, label %tuple.next, label %put

put:
  %within = word i64, %rec[1]
  %byte = word i64, %rec[2]
  %base.at = getelementptr ptr, ptr %objects, i64 %within
  %base = load ptr, ptr %base.at
  %cell = getelementptr i8, ptr %base, i64 %byte
  store ptr %made, ptr %cell
  br label %tuple.next

tuple.next:
  %t.next = add nuw i64 %t, 1
  %more = icmp ult i64 %t.next, %tuples
  br i1 %more, label %tuple, label %done

done:
  ret i32 0

fail:
  ret i32 -1
}

; Keep an answer, in its place first: releasing the old one may call back. Others may have found it and hold it, too.
define internal preserve_mostcc void @keep(ptr %plan, ptr %place, ptr %whole) noinline nounwind {
  %never = word i64, %plan[$P_NEVER_KEPT]
  %keeps = icmp eq i64 %never, 0
  br i1 %keeps, label %put, label %done

put:
  %count = getelementptr i8, ptr %whole, i64 $COUNT
  %held = load i32, ptr %count
  %held.more = add i32 %held, 1
  store i32 %held.more, ptr %count
  %there = load ptr, ptr %place
  store ptr %whole, ptr %place
  call void @Py_DecRef(ptr %there)
  br label %done

done:
  ret void
}

; Keep an answer no longer, if it still is in some place.
define internal preserve_mostcc void @drop_kept(ptr %plan, ptr %whole) noinline nounwind {
entry:
  %kept = word ptr, %plan[$P_KEPT]
  br label %look

look:
  %k = phi i64 [ 0, %entry ], [ %k.next, %next ]
  %place = getelementptr ptr, ptr %kept, i64 %k
  %there = load ptr, ptr %place
  %here = icmp eq ptr %there, %whole
  br i1 %here, label %drop, label %next

drop:
  call void @Py_IncRef(ptr @_Py_NoneStruct)
  store ptr @_Py_NoneStruct, ptr %place
  call void @Py_DecRef(ptr %whole)
  br label %next

next:
  %k.next = add nuw i64 %k, 1
  %more = icmp ult i64 %k.next, $KEPT_EACH
  br i1 %more, label %look, label %done

done:
  ret void
}

; What holds all results made so far; there may be none.
define internal preserve_mostcc void @release_answer(ptr %plan, ptr %frame) noinline nounwind {
  %results = word i64, %plan[$P_RESULTS]
  %none = icmp eq i64 %results, 0
  br i1 %none, label %done, label %some

some:
  %objects.word = word i64, %plan[$P_OBJECTS]
  %objects = getelementptr i64, ptr %frame, i64 %objects.word
  %single = word i64, %plan[$P_SINGLE]
  %at = getelementptr ptr, ptr %objects, i64 %single
  %whole = load ptr, ptr %at
  call void @Py_DecRef(ptr %whole)
  br label %done

done:
  ret void
}
"""
