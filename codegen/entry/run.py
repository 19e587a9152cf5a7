"""The middle of an entry's function, as LLVM IR text in the notation of `entry.ir`: results, then the kernel.

Goes on where `codegen.entry.call.CALL_TEXT` stops, in the same function. Where results go before they are returned is
found in one way for all kinds: result r is at a byte offset in one of the *bases* that the frame lists, which are the
tuples of the answer, outer ones first; a result that is returned as it is has a word of the frame for its base.
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

RUN_TEXT = """; ---- results: one object of an earlier call is taken, or made, and what is missing in it is made

shaped:
  %has.out = icmp ne ptr %out, null
  br i1 %has.out, label %outputs, label %fresh

outputs:
  %out.elements = call preserve_mostcc i64 @take_outputs(ptr %plan, ptr %dims, ptr %args, ptr %out)
  %out.taken = icmp sge i64 %out.elements, 0
  %out.all = add i64 %in.elements, %out.elements
  br i1 %out.taken, label %run, label %fallback

fresh:
  %results = word i64, %plan[$P_RESULTS]
  %no.results = icmp eq i64 %results, 0
  br i1 %no.results, label %run, label %turn

turn:                                            ; the places of kept answers come in turn: the oldest is likeliest free
  %kept = word ptr, %plan[$P_KEPT]
  %turn.at = getelementptr i64, ptr %plan, i64 $P_TURN
  %turn.now = load i64, ptr %turn.at
  %turn.more = add nuw i64 %turn.now, 1
  %turn.next = urem i64 %turn.more, $KEPT_EACH
  store i64 %turn.next, ptr %turn.at
  %slot = getelementptr ptr, ptr %kept, i64 %turn.now
  %bases.word = word i64, %plan[$P_OBJECTS]
  %bases = getelementptr i64, ptr %dims, i64 %bases.word
  %result.word = word i64, %plan[$P_RESULT_RECORDS]
  %result.rec = getelementptr i64, ptr %plan, i64 %result.word
  %result.strides.word = word i64, %plan[$P_RESULT_STRIDES]
  %result.strides = getelementptr i64, ptr %dims, i64 %result.strides.word
  %result.shapes.word = word i64, %plan[$P_OUT_SHAPES]
  %result.shapes = getelementptr i64, ptr %dims, i64 %result.shapes.word
  %result.data = getelementptr ptr, ptr %data, i64 %params
  %old = load ptr, ptr %slot
  %old.count = field i32, %old[$COUNT]
  %old.alone = icmp eq i32 %old.count, 1
  br i1 %old.alone, label %take, label %grow

grow:
  %grown = call preserve_mostcc i32 @new_tuples(ptr %plan, ptr %result.rec, ptr %bases)
  %grown.all = icmp eq i32 %grown, 0
  br i1 %grown.all, label %result, label %release.raise

take:                                            ; it is ours from here on
  store i32 2, ptr %old
  %tuples = word i64, %plan[$P_TUPLES]
  %bare = icmp eq i64 %tuples, 0
  br i1 %bare, label %take.bare, label %take.tuple

take.bare:
  %cell.bare = getelementptr ptr, ptr %bases, i64 1
  store ptr %cell.bare, ptr %bases
  store ptr %old, ptr %cell.bare
  br label %result

take.tuple:
  store ptr %old, ptr %bases
$FORGET_OLD
  %outer.rec = getelementptr i64, ptr %result.rec, i64 -3
  %one.tuple = icmp eq i64 %tuples, 1
  br i1 %one.tuple, label %result, label %take.inner

take.inner:                                      ; a tuple in a tuple: nobody else's?
  %ti = phi i64 [ 1, %take.tuple ], [ %ti.next, %take.inner.alone ]
  %ti.rec = phi ptr [ %outer.rec, %take.tuple ], [ %ti.rec.next, %take.inner.alone ]
  %ti.rec.next = getelementptr i64, ptr %ti.rec, i64 -3
  %ti.within = word i64, %ti.rec.next[1]
  %ti.byte = word i64, %ti.rec.next[2]
  %ti.base.at = getelementptr ptr, ptr %bases, i64 %ti.within
  %ti.base = load ptr, ptr %ti.base.at
  %ti.cell = getelementptr i8, ptr %ti.base, i64 %ti.byte
  %inner = load ptr, ptr %ti.cell
  %inner.count = field i32, %inner[$COUNT]
  %inner.alone = icmp eq i32 %inner.count, 1
  br i1 %inner.alone, label %take.inner.alone, label %leave

take.inner.alone:
  %ti.to = getelementptr ptr, ptr %bases, i64 %ti
  store ptr %inner, ptr %ti.to
$FORGET_INNER
  %ti.next = add nuw i64 %ti, 1
  %ti.more = icmp ult i64 %ti.next, %tuples
  br i1 %ti.more, label %take.inner, label %result

leave:
  store i32 1, ptr %old
  br label %grow

result:
  %r.left = phi i64 [ %results, %grow ], [ %results, %take.bare ], [ %results, %take.tuple ],
                    [ %results, %take.inner.alone ], [ %r.less, %result.next ]
  %rrec = phi ptr [ %result.rec, %grow ], [ %result.rec, %take.bare ], [ %result.rec, %take.tuple ],
                  [ %result.rec, %take.inner.alone ], [ %rrec.next, %result.next ]
  %rdata.to = phi ptr [ %result.data, %grow ], [ %result.data, %take.bare ], [ %result.data, %take.tuple ],
                      [ %result.data, %take.inner.alone ], [ %rdata.next, %result.next ]
  %rstrides = phi ptr [ %result.strides, %grow ], [ %result.strides, %take.bare ], [ %result.strides, %take.tuple ],
                      [ %result.strides, %take.inner.alone ], [ %rstrides.next, %result.next ]
  %rshape = phi ptr [ %result.shapes, %grow ], [ %result.shapes, %take.bare ], [ %result.shapes, %take.tuple ],
                    [ %result.shapes, %take.inner.alone ], [ %rshape.next, %result.next ]
  %relements = phi i64 [ %in.elements, %grow ], [ %in.elements, %take.bare ], [ %in.elements, %take.tuple ],
                       [ %in.elements, %take.inner.alone ], [ %relements.next, %result.next ]
  %rslot = phi ptr [ %slot, %grow ], [ %slot, %take.bare ], [ %slot, %take.tuple ],
                   [ %slot, %take.inner.alone ], [ %rslot.next, %result.next ]
  %rrank = load i64, ptr %rrec, !invariant.load !0
  %rwithin = word i64, %rrec[3]
  %rbyte = word i64, %rrec[4]
  %rbase.at = getelementptr ptr, ptr %bases, i64 %rwithin
  %rbase = load ptr, ptr %rbase.at
  %rcell = getelementptr i8, ptr %rbase, i64 %rbyte
  %before = load ptr, ptr %rcell
  %nothing.before = icmp eq ptr %before, null
  %r.scalar = icmp eq i64 %rrank, 0
  br i1 %r.scalar, label %result.scalar, label %result.array

result.scalar:
  %rdtype = word i64, %rrec[1]
  %r.float = icmp eq i64 %rdtype, 0
  br i1 %r.float, label %result.float, label %result.other

result.other:                                    ; the kernel writes to the frame
  %rscratch.words = word i64, %plan[$P_SCRATCH]
  %rscratch.all = getelementptr i64, ptr %dims, i64 %rscratch.words
  %rscratch.end = getelementptr i64, ptr %rscratch.all, i64 %results
  %rscratch.left = sub i64 %params, %r.left
  %rscratch = getelementptr i64, ptr %rscratch.end, i64 %rscratch.left
  br label %result.next

result.float:                                    ; the kernel writes into the object
  br i1 %nothing.before, label %float.make, label %float.look

float.look:
  %float.count = field i32, %before[$COUNT]
  %float.single = word i32, %plan[$P_SINGLE]
  %float.others = sub i32 %float.count, %float.single
  %float.alone = icmp eq i32 %float.others, 1
  br i1 %float.alone, label %float.have, label %float.make

float.make:
  %float.made = call preserve_mostcc ptr @new_float(ptr %rcell)
  %float.none = icmp eq ptr %float.made, null
  br i1 %float.none, label %release.raise, label %float.have

float.have:
  %float = phi ptr [ %before, %float.look ], [ %float.made, %float.make ]
  %float.value = getelementptr i8, ptr %float, i64 $FLOAT_VALUE
  br label %result.next

result.array:
  %rdescr = word ptr, %rrec[2]
  br i1 %nothing.before, label %make, label %old.look

old.look:                                        ; again as it was made, and nobody else's?
  %oarray.count = field i32, %before[$COUNT]
  %oarray.weak = field ptr, %before[$ARRAY_WEAK]
  %oarray.flags = field i32, %before[$ARRAY_FLAGS]
  %oarray.nd32 = field i32, %before[$ARRAY_ND]
  %oarray.descr = field ptr, %before[$ARRAY_DESCR]
  %oarray.nd = zext i32 %oarray.nd32 to i64
  %oarray.plain = and i32 %oarray.flags, $NEW_MASK
  %oarray.single = word i32, %plan[$P_SINGLE]
  %oarray.others = sub i32 %oarray.count, %oarray.single
  %oarray.alone = icmp eq i32 %oarray.others, 1
  %oarray.unwatched = icmp eq ptr %oarray.weak, null
  %oarray.untouched = icmp eq i32 %oarray.plain, $NEW_FLAGS
  %oarray.ranked = icmp eq i64 %oarray.nd, %rrank
  %oarray.typed = icmp eq ptr %oarray.descr, %rdescr
  %oarray.a = and i1 %oarray.alone, %oarray.unwatched
  %oarray.b = and i1 %oarray.untouched, %oarray.ranked
  %oarray.c = and i1 %oarray.a, %oarray.b
  %oarray.fits = and i1 %oarray.c, %oarray.typed
  br i1 %oarray.fits, label %old.sizes, label %make

old.sizes:
  %oshape = field ptr, %before[$ARRAY_SHAPE]
  br label %old.axis

old.axis:
  %oa = phi i64 [ 0, %old.sizes ], [ %oa.next, %old.axis.same ]
  %osize.from = getelementptr i64, ptr %oshape, i64 %oa
  %osize = load i64, ptr %osize.from
  %nsize.from = getelementptr i64, ptr %rshape, i64 %oa
  %nsize = load i64, ptr %nsize.from
  %size.same = icmp eq i64 %osize, %nsize
  br i1 %size.same, label %old.axis.same, label %make

old.axis.same:
  %oa.next = add nuw i64 %oa, 1
  %oa.more = icmp ult i64 %oa.next, %rrank
  br i1 %oa.more, label %old.axis, label %array.have

make:
  %fresh.made = call preserve_mostcc ptr @new_array(ptr %plan, ptr %bases, ptr %rcell, ptr %rrec, ptr %rshape)
  %unmade = icmp eq ptr %fresh.made, null
  br i1 %unmade, label %release.raise, label %array.have

array.have:
  %made = phi ptr [ %before, %old.axis.same ], [ %fresh.made, %make ]
  %made.data = field ptr, %made[$ARRAY_DATA]
  %made.strides = field ptr, %made[$ARRAY_STRIDES]
  br label %result.axis

result.axis:
  %ra = phi i64 [ 0, %array.have ], [ %ra.next, %result.axis ]
  %rcount = phi i64 [ 1, %array.have ], [ %rcount.next, %result.axis ]
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

result.made:                                     ; what is large is not kept
  %made.large = icmp ugt i64 %rcount.next, $KEPT_ELEMENTS
  %made.slot = select i1 %made.large, ptr null, ptr %rslot
  br label %result.next

result.next:
  %rpointer = phi ptr [ %rscratch, %result.other ], [ %float.value, %float.have ], [ %made.data, %result.made ]
  %rtaken = phi i64 [ 0, %result.other ], [ 0, %float.have ], [ %rcount.next, %result.made ]
  %rslot.next = phi ptr [ %rslot, %result.other ], [ %rslot, %float.have ], [ %made.slot, %result.made ]
  store ptr %rpointer, ptr %rdata.to
  %relements.next = add i64 %relements, %rtaken
  %rstrides.next = getelementptr i64, ptr %rstrides, i64 %rrank
  %rshape.next = getelementptr i64, ptr %rshape, i64 %rrank
  %rrec.next = getelementptr i64, ptr %rrec, i64 5
  %rdata.next = getelementptr ptr, ptr %rdata.to, i64 1
  %r.less = sub nuw i64 %r.left, 1
  %r.done = icmp eq i64 %r.less, 0
  br i1 %r.done, label %run, label %result

; ---- the kernel, without the GIL when there is much to do

run:
  %all.elements = phi i64 [ %in.elements, %fresh ], [ %out.all, %outputs ], [ %relements.next, %result.next ]
  %place = phi ptr [ null, %fresh ], [ null, %outputs ], [ %rslot.next, %result.next ]
  %kernel = word ptr, %plan[$P_RUN]
  %above = word i64, %plan[$P_RELEASE_ABOVE]
  %many = icmp sgt i64 %all.elements, %above
  %amount = word ptr, %plan[$P_AMOUNT]
  %unknown = icmp eq ptr %amount, null
  br i1 %unknown, label %decide, label %estimate

estimate:
  %work = call i64 %amount(ptr %dims)
  %much.work = icmp sgt i64 %work, $LONG_WORK
  %much = or i1 %many, %much.work
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
  br i1 %good, label %answer, label %release.retry
"""
