"""`out=` on the fast entry, as LLVM IR text in the notation of `entry.ir`.

`take_outputs` takes what the caller passed as `out`, with the parameters and the shapes of the results already in the
call's frame; it writes the addresses and strides of the output arrays into the frame and gives the number of their
elements, or -1 where Python has to look: anything but native, aligned, writeable arrays of the right shape whose
elements lie apart, and any array whose bytes may meet those of an argument or of another output.
"""

OUT_TEXT = """
@item.sizes = private unnamed_addr constant [4 x i64] [i64 8, i64 4, i64 8, i64 1]

define internal preserve_mostcc i64 @take_outputs(ptr %plan, ptr %frame, ptr %args, ptr %out) noinline nounwind {
entry:
  %params = word i64, %plan[$P_PARAMS]
  %results = word i64, %plan[$P_RESULTS]
  %single = word i64, %plan[$P_SINGLE]
  %data.word = word i64, %plan[$P_DATA]
  %data = getelementptr i64, ptr %frame, i64 %data.word
  %strides.word = word i64, %plan[$P_STRIDES]
  %strides = getelementptr i64, ptr %frame, i64 %strides.word
  %in.word = word i64, %plan[$P_IN_SHAPES]
  %in.shapes = call preserve_mostcc ptr @note_shapes(ptr %plan, ptr %frame, ptr %args)
  %out.word = word i64, %plan[$P_OUT_SHAPES]
  %out.shapes = getelementptr i64, ptr %frame, i64 %out.word
  %result.strides.word = word i64, %plan[$P_RESULT_STRIDES]
  %result.strides = getelementptr i64, ptr %frame, i64 %result.strides.word
  %result.word = word i64, %plan[$P_RESULT_RECORDS]
  %records = getelementptr i64, ptr %plan, i64 %result.word
  %result.data = getelementptr ptr, ptr %data, i64 %params
  %items = getelementptr i8, ptr %out, i64 $TUPLE_ITEMS
  %is.single = icmp ne i64 %single, 0
  br i1 %is.single, label %result, label %tuple

tuple:
  %type = field ptr, %out[$TYPE]
  %is.tuple = icmp eq ptr %type, @PyTuple_Type
  br i1 %is.tuple, label %tuple.count, label %refuse

tuple.count:
  %count = field i64, %out[$TUPLE_SIZE]
  %complete = icmp eq i64 %count, %results
  br i1 %complete, label %tuple.some, label %refuse

tuple.some:
  %none = icmp eq i64 %results, 0
  br i1 %none, label %accept.empty, label %result

accept.empty:
  ret i64 0

result:
  %r = phi i64 [ 0, %entry ], [ 0, %tuple.some ], [ %r.next, %result.next ]
  %rec = phi ptr [ %records, %entry ], [ %records, %tuple.some ], [ %rec.next, %result.next ]
  %rstrides = phi ptr [ %result.strides, %entry ], [ %result.strides, %tuple.some ], [ %rstrides.next, %result.next ]
  %rshape = phi ptr [ %out.shapes, %entry ], [ %out.shapes, %tuple.some ], [ %rshape.next, %result.next ]
  %elements = phi i64 [ 0, %entry ], [ 0, %tuple.some ], [ %elements.next, %result.next ]
  %item.from = getelementptr ptr, ptr %items, i64 %r
  %item.only = select i1 %is.single, ptr %frame, ptr %item.from    ; any readable word: not looked at
  %item.loaded = load ptr, ptr %item.only
  %item = select i1 %is.single, ptr %out, ptr %item.loaded
  %item.type = field ptr, %item[$TYPE]
  %is.array = icmp eq ptr %item.type, @symdiff_ndarray_type
  br i1 %is.array, label %array, label %refuse

array:
  %rank = word i64, %rec[0]
  %dtype = word i64, %rec[1]
  %descr.want = word ptr, %rec[2]
  %descr = field ptr, %item[$ARRAY_DESCR]
  %descr.same = icmp eq ptr %descr, %descr.want
  %nd32 = field i32, %item[$ARRAY_ND]
  %nd = zext i32 %nd32 to i64
  %nd.same = icmp eq i64 %nd, %rank
  %flags = field i32, %item[$ARRAY_FLAGS]
  %usable.bits = and i32 %flags, $USABLE_OUTPUT
  %usable = icmp eq i32 %usable.bits, $USABLE_OUTPUT
  %fits.a = and i1 %descr.same, %nd.same
  %fits = and i1 %fits.a, %usable
  br i1 %fits, label %axes, label %refuse

axes:
  %item.size.at = getelementptr i64, ptr @item.sizes, i64 %dtype
  %item.size = load i64, ptr %item.size.at
  %contiguous.bits = and i32 %flags, $CONTIGUOUS
  %contiguous = icmp ne i32 %contiguous.bits, 0
  %shape = field ptr, %item[$ARRAY_SHAPE]
  %steps = field ptr, %item[$ARRAY_STRIDES]
  %pointer = field ptr, %item[$ARRAY_DATA]
  %data.to = getelementptr ptr, ptr %result.data, i64 %r
  store ptr %pointer, ptr %data.to
  br label %axis

axis:                                            ; from the last axis, whose steps are smallest in C order
  %left = phi i64 [ %rank, %axes ], [ %a, %axis.next ]
  %total = phi i64 [ 1, %axes ], [ %total.next, %axis.next ]
  %extent = phi i64 [ %item.size, %axes ], [ %extent.next, %axis.next ]
  %finished = icmp eq i64 %left, 0
  br i1 %finished, label %apart, label %axis.size

axis.size:
  %a = sub i64 %left, 1
  %size.at = getelementptr i64, ptr %shape, i64 %a
  %size = load i64, ptr %size.at
  %want.at = getelementptr i64, ptr %rshape, i64 %a
  %want = load i64, ptr %want.at
  %size.same = icmp eq i64 %size, %want
  br i1 %size.same, label %axis.step, label %refuse

axis.step:
  %step.at = getelementptr i64, ptr %steps, i64 %a
  %step = load i64, ptr %step.at
  %step.to = getelementptr i64, ptr %rstrides, i64 %a
  store i64 %step, ptr %step.to
  %step.size = call i64 @llvm.abs.i64(i64 %step, i1 false)
  %clear = icmp uge i64 %step.size, %extent
  %short = icmp ule i64 %size, 1
  %apart.a = or i1 %clear, %short
  %apart.b = or i1 %apart.a, %contiguous
  br i1 %apart.b, label %axis.next, label %refuse

axis.next:
  %total.next = mul i64 %total, %size
  %reach = sub i64 %size, 1
  %reach.bytes = mul i64 %reach, %step.size
  %extent.more = add i64 %extent, %reach.bytes
  %extent.next = select i1 %short, i64 %extent, i64 %extent.more
  br label %axis

apart:                                           ; compare with every argument, then with the outputs before this one
  %mine = call { i64, i64 } @bounds(ptr %pointer, i64 %rank, ptr %rshape, ptr %rstrides, i64 %item.size)
  %low = extractvalue { i64, i64 } %mine, 0
  %high = extractvalue { i64, i64 } %mine, 1
  %plan.records = getelementptr i64, ptr %plan, i64 $P_RECORDS
  %no.params = icmp eq i64 %params, 0
  %first.rec = select i1 %no.params, ptr %records, ptr %plan.records
  br label %other

other:
  %o = phi i64 [ 0, %apart ], [ %o.next, %other.far ]
  %orec = phi ptr [ %first.rec, %apart ], [ %orec.next, %other.far ]
  %oshape = phi ptr [ %in.shapes, %apart ], [ %oshape.next, %other.far ]
  %ostrides = phi ptr [ %strides, %apart ], [ %ostrides.next, %other.far ]
  %others = add i64 %params, %r
  %all.seen = icmp eq i64 %o, %others
  br i1 %all.seen, label %result.next, label %other.bounds

other.bounds:
  %orank = word i64, %orec[0]
  %odtype = word i64, %orec[1]
  %osize.at = getelementptr i64, ptr @item.sizes, i64 %odtype
  %osize = load i64, ptr %osize.at
  %opointer.at = getelementptr ptr, ptr %data, i64 %o
  %opointer = load ptr, ptr %opointer.at
  %theirs = call { i64, i64 } @bounds(ptr %opointer, i64 %orank, ptr %oshape, ptr %ostrides, i64 %osize)
  %olow = extractvalue { i64, i64 } %theirs, 0
  %ohigh = extractvalue { i64, i64 } %theirs, 1
  %starts.before = icmp ult i64 %low, %ohigh
  %ends.after = icmp ult i64 %olow, %high
  %meet = and i1 %starts.before, %ends.after
  br i1 %meet, label %refuse, label %other.far

other.far:
  %oshape.next = getelementptr i64, ptr %oshape, i64 %orank
  %ostrides.next = getelementptr i64, ptr %ostrides, i64 %orank
  %is.param = icmp ult i64 %o, %params
  %param.words = add i64 %orank, 5
  %record.words = select i1 %is.param, i64 %param.words, i64 5
  %orec.after = getelementptr i64, ptr %orec, i64 %record.words
  %o.next = add i64 %o, 1
  %params.seen = icmp eq i64 %o.next, %params
  %orec.next = select i1 %params.seen, ptr %records, ptr %orec.after
  br label %other

result.next:
  %elements.next = add i64 %elements, %total
  %rstrides.next = getelementptr i64, ptr %rstrides, i64 %rank
  %rshape.next = getelementptr i64, ptr %rshape, i64 %rank
  %rec.next = getelementptr i64, ptr %rec, i64 5
  %r.next = add i64 %r, 1
  %r.more = icmp ult i64 %r.next, %results
  br i1 %r.more, label %result, label %accept

accept:
  ret i64 %elements.next

refuse:
  ret i64 -1
}

; The first byte of an array and the one behind its last; equal when it has no elements.
define internal { i64, i64 } @bounds(ptr %pointer, i64 %rank, ptr %shape, ptr %steps, i64 %item.size) nounwind {
entry:
  %start = ptrtoint ptr %pointer to i64
  br label %axis
axis:
  %a = phi i64 [ 0, %entry ], [ %a.next, %axis.some ]
  %low = phi i64 [ %start, %entry ], [ %low.next, %axis.some ]
  %high = phi i64 [ %start, %entry ], [ %high.next, %axis.some ]
  %finished = icmp eq i64 %a, %rank
  br i1 %finished, label %done, label %axis.size
axis.size:
  %size.at = getelementptr i64, ptr %shape, i64 %a
  %size = load i64, ptr %size.at
  %void = icmp eq i64 %size, 0
  br i1 %void, label %empty, label %axis.some
axis.some:
  %step.at = getelementptr i64, ptr %steps, i64 %a
  %step = load i64, ptr %step.at
  %reach = sub i64 %size, 1
  %distance = mul i64 %reach, %step
  %back = call i64 @llvm.smin.i64(i64 %distance, i64 0)
  %forth = call i64 @llvm.smax.i64(i64 %distance, i64 0)
  %low.next = add i64 %low, %back
  %high.next = add i64 %high, %forth
  %a.next = add i64 %a, 1
  br label %axis
empty:
  ret { i64, i64 } zeroinitializer
done:
  %end = add i64 %high, %item.size
  %both.low = insertvalue { i64, i64 } undef, i64 %low, 0
  %both = insertvalue { i64, i64 } %both.low, i64 %end, 1
  ret { i64, i64 } %both
}

declare i64 @llvm.abs.i64(i64, i1)
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
"""
