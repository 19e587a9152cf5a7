"""The middle of an entry's function, as LLVM IR text in the notation of `entry_ir`: results, then the kernel.

Goes on where `entry_call.CALL_TEXT` stops, in the same function.
"""

KERNEL_TEXT = """\
  br i1 %long, label %run.released, label %run.held

run.held:
  %held.status = call i32 %kernel(ptr %dims, ptr %data, ptr %strides)
  br label %ran

run.released:
  %thread = call ptr @PyEval_SaveThread()
  %released.status = call i32 %kernel(ptr %dims, ptr %data, ptr %strides)
  call void @PyEval_RestoreThread(ptr %thread)
  br label %ran

ran:
  %status = phi i32 [ %held.status, %run.held ], [ %released.status, %run.released ]
  %good = icmp eq i32 %status, 0"""
"""Runs `%kernel`, without the GIL where it is `%long`; then there are `%status` and whether that is `%good`."""

RUN_TEXT = """; ---- results: arrays from NumPy, one word of the frame for each scalar

shaped:
  %objects.word = word i64, %plan[$P_OBJECTS]
  %objects = getelementptr i64, ptr %dims, i64 %objects.word
  %results = word i64, %plan[$P_RESULTS]
  %result.data = getelementptr ptr, ptr %data, i64 %params
  %result.scratch = getelementptr i64, ptr %scratch, i64 %params
  %no.results = icmp eq i64 %results, 0
  %has.out = icmp ne ptr %out, null
  br i1 %has.out, label %outputs, label %fresh

outputs:
  %out.elements = call i64 @take_outputs(ptr %plan, ptr %dims, ptr %result.rec, ptr %out)
  %out.taken = icmp sge i64 %out.elements, 0
  %out.all = add i64 %in.elements, %out.elements
  br i1 %out.taken, label %run, label %fallback

fresh:
  %numbers.out = word i64, %plan[$P_NUMBERS_OUT]
  %gives.numbers = icmp ne i64 %numbers.out, 0
  br i1 %gives.numbers, label %place, label %some.results

place:                                           ; numbers alone
  %place.r = phi i64 [ 0, %fresh ], [ %place.next, %place ]
  %place.scratch = getelementptr i64, ptr %result.scratch, i64 %place.r
  %place.to = getelementptr ptr, ptr %result.data, i64 %place.r
  store ptr %place.scratch, ptr %place.to
  %place.next = add nuw i64 %place.r, 1
  %place.more = icmp ult i64 %place.next, %results
  br i1 %place.more, label %place, label %run

some.results:
  br i1 %no.results, label %run, label %turn

turn:                                            ; the places of kept arrays come in turn: the oldest is likeliest free
  %kept = word ptr, %plan[$P_KEPT]
  %turn.at = getelementptr i64, ptr %plan, i64 $P_TURN
  %turn.now = load i64, ptr %turn.at
  %turn.more = add nuw i64 %turn.now, 1
  %turn.next = urem i64 %turn.more, $KEPT_EACH
  store i64 %turn.next, ptr %turn.at
  %slots = getelementptr ptr, ptr %kept, i64 %turn.now
  br label %result

result:
  %r = phi i64 [ 0, %turn ], [ %r.next, %result.next ]
  %rrec = phi ptr [ %result.rec, %turn ], [ %rrec.next, %result.next ]
  %rstrides = phi ptr [ %result.strides, %turn ], [ %rstrides.next, %result.next ]
  %rshape = phi ptr [ %out.shapes, %turn ], [ %rshape.next, %result.next ]
  %relements = phi i64 [ %in.elements, %turn ], [ %relements.next, %result.next ]
  %rrank = load i64, ptr %rrec, !invariant.load !0
  %rdata.to = getelementptr ptr, ptr %result.data, i64 %r
  %robj.to = getelementptr ptr, ptr %objects, i64 %r
  %r.scalar = icmp eq i64 %rrank, 0
  br i1 %r.scalar, label %result.scalar, label %result.array

result.scalar:
  %rscratch = getelementptr i64, ptr %result.scratch, i64 %r
  store ptr %rscratch, ptr %rdata.to
  store ptr null, ptr %robj.to
  br label %result.next

result.array:
  %rdescr = word ptr, %rrec[2]
  %rslot.word = mul nuw i64 %r, $KEPT_EACH
  %rslot = getelementptr ptr, ptr %slots, i64 %rslot.word
  %old = load ptr, ptr %rslot
  %old.type = field ptr, %old[$TYPE]
  %old.array = icmp eq ptr %old.type, @symdiff_ndarray_type
  br i1 %old.array, label %old.look, label %make

old.look:                                        ; again as it was made, and nobody else's?
  %old.count = field i32, %old[$COUNT]
  %old.weak = field ptr, %old[$ARRAY_WEAK]
  %old.flags = field i32, %old[$ARRAY_FLAGS]
  %old.nd32 = field i32, %old[$ARRAY_ND]
  %old.descr = field ptr, %old[$ARRAY_DESCR]
  %old.nd = zext i32 %old.nd32 to i64
  %old.plain = and i32 %old.flags, $NEW_MASK
  %old.alone = icmp eq i32 %old.count, 1
  %old.unwatched = icmp eq ptr %old.weak, null
  %old.untouched = icmp eq i32 %old.plain, $NEW_FLAGS
  %old.ranked = icmp eq i64 %old.nd, %rrank
  %old.typed = icmp eq ptr %old.descr, %rdescr
  %old.a = and i1 %old.alone, %old.unwatched
  %old.b = and i1 %old.untouched, %old.ranked
  %old.c = and i1 %old.a, %old.b
  %old.fits = and i1 %old.c, %old.typed
  br i1 %old.fits, label %old.sizes, label %make

old.sizes:
  %old.shape = field ptr, %old[$ARRAY_SHAPE]
  br label %old.axis

old.axis:
  %oa = phi i64 [ 0, %old.sizes ], [ %oa.next, %old.axis.same ]
  %old.size.from = getelementptr i64, ptr %old.shape, i64 %oa
  %old.size = load i64, ptr %old.size.from
  %new.size.from = getelementptr i64, ptr %rshape, i64 %oa
  %new.size = load i64, ptr %new.size.from
  %old.same = icmp eq i64 %old.size, %new.size
  br i1 %old.same, label %old.axis.same, label %make

old.axis.same:
  %oa.next = add nuw i64 %oa, 1
  %oa.more = icmp ult i64 %oa.next, %rrank
  br i1 %oa.more, label %old.axis, label %old.take

old.take:
  call void @Py_IncRef(ptr %old)
  br label %result.fill

make:
  call void @Py_IncRef(ptr %rdescr)              ; the constructor takes a reference to it, even when it fails
  %rrank32 = trunc i64 %rrank to i32
  %fresh.made = call ptr @symdiff_new_array(ptr @symdiff_ndarray_type, ptr %rdescr, i32 %rrank32, ptr %rshape, ptr null,
                                      ptr null, i32 0, ptr null)
  %unmade = icmp eq ptr %fresh.made, null
  br i1 %unmade, label %release, label %result.fill

result.fill:
  %made = phi ptr [ %old, %old.take ], [ %fresh.made, %make ]
  %made.again = phi i1 [ true, %old.take ], [ false, %make ]
  store ptr %made, ptr %robj.to
  %made.data = field ptr, %made[$ARRAY_DATA]
  store ptr %made.data, ptr %rdata.to
  %made.strides = field ptr, %made[$ARRAY_STRIDES]
  br label %result.axis

result.axis:
  %ra = phi i64 [ 0, %result.fill ], [ %ra.next, %result.axis ]
  %rcount = phi i64 [ 1, %result.fill ], [ %rcount.next, %result.axis ]
  %rstep.from = getelementptr i64, ptr %made.strides, i64 %ra
  %rstep = load i64, ptr %rstep.from
  %rstep.to = getelementptr i64, ptr %rstrides, i64 %ra
  store i64 %rstep, ptr %rstep.to
  %rsize.from = getelementptr i64, ptr %rshape, i64 %ra
  %rsize = load i64, ptr %rsize.from
  %rcount.next = mul i64 %rcount, %rsize
  %ra.next = add nuw i64 %ra, 1
  %ra.more = icmp ult i64 %ra.next, %rrank
  br i1 %ra.more, label %result.axis, label %result.made

result.made:
  %made.large = icmp ugt i64 %rcount.next, $KEPT_ELEMENTS
  %made.leave = or i1 %made.again, %made.large
  br i1 %made.leave, label %result.next, label %result.keep

result.keep:                                     ; in its place first: releasing the old one may call back
  call void @Py_IncRef(ptr %made)
  store ptr %made, ptr %rslot
  call void @Py_DecRef(ptr %old)
  br label %result.next

result.next:
  %rtaken = phi i64 [ 0, %result.scalar ], [ %rcount.next, %result.made ], [ %rcount.next, %result.keep ]
  %relements.next = add i64 %relements, %rtaken
  %rstrides.next = getelementptr i64, ptr %rstrides, i64 %rrank
  %rshape.next = getelementptr i64, ptr %rshape, i64 %rrank
  %rrec.next = getelementptr i64, ptr %rrec, i64 3
  %r.next = add nuw i64 %r, 1
  %r.more = icmp ult i64 %r.next, %results
  br i1 %r.more, label %result, label %run

; ---- the kernel, without the GIL when there is much to do

run:
  %all.elements = phi i64 [ %in.elements, %some.results ], [ %in.elements, %place ], [ %out.all, %outputs ],
                          [ %relements.next, %result.next ]
  %boxes = phi i1 [ false, %some.results ], [ true, %place ], [ false, %outputs ], [ false, %result.next ]
  %kernel = word ptr, %plan[$P_RUN]
  %above = word i64, %plan[$P_RELEASE_ABOVE]
  %many = icmp sgt i64 %all.elements, %above
  %amount = word ptr, %plan[$P_AMOUNT]
  %unknown = icmp eq ptr %amount, null
  %decided = or i1 %many, %unknown
  br i1 %decided, label %decide, label %estimate

estimate:
  %work = call i64 %amount(ptr %dims)
  %much = icmp sgt i64 %work, $LONG_WORK
  br label %decide

decide:
  %long = phi i1 [ %many, %run ], [ %much, %estimate ]
$RUN_KERNEL
  br i1 %has.out, label %ran.out, label %ran.fresh

ran.out:
  br i1 %good, label %answer.out, label %fallback

answer.out:
  call void @Py_IncRef(ptr %out)
  ret ptr %out

ran.fresh:
  br i1 %boxes, label %ran.numbers, label %ran.some

ran.numbers:
  br i1 %good, label %numbers.answer, label %fallback

ran.some:
  br i1 %good, label %box.start, label %release
"""
