"""The entry of a function, as LLVM IR text in the notation of `entry.ir`, which says what it takes and promises.

The first of its stages, each a loop over records of the plan: parameters. Results and the kernel are in
`codegen.entry.run`; the answer and, where something fails, its release in `codegen.entry.results`. What is seldom
called preserves registers, so that calls which need none of it have them all.
"""

CALL_TEXT = """
define ptr @symdiff_call(
  ptr %self, ptr %args, i64 %nargsf, ptr %names
) nounwind "probe-stack"="inline-asm" "no-jump-tables"="true" {
entry:
  %plan = field ptr, %self[$PLAN]
  %params = word i64, %plan[$P_PARAMS]
  %nargs = and i64 %nargsf, 9223372036854775807
  %miscounted = icmp ne i64 %nargs, %params
  br i1 %miscounted, label %fallback, label %counted

counted:
  %unnamed = icmp eq ptr %names, null
  br i1 %unnamed, label %start, label %keyword

keyword:                                         ; `out=` and nothing else
  %names.count = field i64, %names[$TUPLE_SIZE]
  %one.name = icmp eq i64 %names.count, 1
  br i1 %one.name, label %keyword.name, label %fallback

keyword.name:
  %first.name = field ptr, %names[$TUPLE_ITEMS]
  %is.out = icmp eq ptr %first.name, @symdiff_out_name
  br i1 %is.out, label %keyword.out, label %fallback

keyword.out:
  %out.from = getelementptr ptr, ptr %args, i64 %nargs
  %out.given = load ptr, ptr %out.from
  %out.none = icmp eq ptr %out.given, @_Py_NoneStruct
  %out.some = select i1 %out.none, ptr null, ptr %out.given
  br label %start

start:
  %out = phi ptr [ null, %counted ], [ %out.some, %keyword.out ]
  %words = word i64, %plan[$P_FRAME_WORDS]
  %dims = alloca i64, i64 %words, align 16
  %data.word = word i64, %plan[$P_DATA]
  %data = getelementptr i64, ptr %dims, i64 %data.word
  %strides.word = word i64, %plan[$P_STRIDES]
  %strides = getelementptr i64, ptr %dims, i64 %strides.word
  %records = getelementptr i64, ptr %plan, i64 $P_RECORDS
  %numbers.in = word i64, %plan[$P_NUMBERS_IN]
  %only.numbers = icmp ne i64 %numbers.in, 0
  br i1 %only.numbers, label %number, label %some.params

number:                                          ; floats alone, the kernel reads them where they are
  %n.p = phi i64 [ 0, %start ], [ %n.next, %number.take ]
  %n.at = getelementptr ptr, ptr %args, i64 %n.p
  %n.obj = load ptr, ptr %n.at
  %n.type = field ptr, %n.obj[$TYPE]
  %n.float = icmp eq ptr %n.type, @PyFloat_Type
  br i1 %n.float, label %number.take, label %param

number.take:
  %n.value = getelementptr i8, ptr %n.obj, i64 $FLOAT_VALUE
  %n.to = getelementptr ptr, ptr %data, i64 %n.p
  store ptr %n.value, ptr %n.to
  %n.next = add nuw i64 %n.p, 1
  %n.more = icmp ult i64 %n.next, %params
  br i1 %n.more, label %number, label %bound

some.params:
  %no.params = icmp eq i64 %params, 0
  br i1 %no.params, label %bound, label %param

; ---- parameters: recognize the object, note its address and strides, bind and compare its sizes

param:
  %p = phi i64 [ 0, %some.params ], [ 0, %number ], [ %p.next, %param.next ]
  %rec = phi ptr [ %records, %some.params ], [ %records, %number ], [ %rec.next, %param.next ]
  %stride.to = phi ptr [ %strides, %some.params ], [ %strides, %number ], [ %stride.to.next, %param.next ]
  %elements = phi i64 [ 0, %some.params ], [ 0, %number ], [ %elements.next, %param.next ]
  %obj.at = getelementptr ptr, ptr %args, i64 %p
  %obj = load ptr, ptr %obj.at
  %type = field ptr, %obj[$TYPE]
  %rank = load i64, ptr %rec, !invariant.load !0
  %axes = getelementptr i64, ptr %rec, i64 5
  %data.to = getelementptr ptr, ptr %data, i64 %p
  %is.array = icmp eq ptr %type, @symdiff_ndarray_type
  br i1 %is.array, label %array, label %maybe.scalar

array:
  %nd32 = field i32, %obj[$ARRAY_ND]
  %nd = zext i32 %nd32 to i64
  %flags = field i32, %obj[$ARRAY_FLAGS]
  %aligned = and i32 %flags, $ALIGNED
  %misaligned = icmp eq i32 %aligned, 0
  %misranked = icmp ne i64 %nd, %rank
  %odd.array = or i1 %misaligned, %misranked
  br i1 %odd.array, label %fallback, label %array.dtype

array.dtype:
  %descr = field ptr, %obj[$ARRAY_DESCR]
  %descr.want = word ptr, %rec[2]
  %descr.same = icmp eq ptr %descr, %descr.want
  br i1 %descr.same, label %array.take, label %array.key

array.key:                                       ; a copy of the descriptor: unpickled arrays have one
  %key.all = field i64, %descr[$DESCR_KEY]
  %key = and i64 %key.all, $DESCR_KEY_MASK
  %key.want = word i64, %rec[3]
  %key.same = icmp eq i64 %key, %key.want
  br i1 %key.same, label %array.take, label %fallback

array.take:
  %pointer = field ptr, %obj[$ARRAY_DATA]
  store ptr %pointer, ptr %data.to
  %shape = field ptr, %obj[$ARRAY_SHAPE]
  %stride = field ptr, %obj[$ARRAY_STRIDES]
  %rankless = icmp eq i64 %rank, 0
  br i1 %rankless, label %param.next, label %axis

axis:
  %a = phi i64 [ 0, %array.take ], [ %a.next, %axis.next ]
  %count = phi i64 [ 1, %array.take ], [ %count.next, %axis.next ]
  %size.from = getelementptr i64, ptr %shape, i64 %a
  %size = load i64, ptr %size.from
  %step.from = getelementptr i64, ptr %stride, i64 %a
  %step = load i64, ptr %step.from
  %step.to = getelementptr i64, ptr %stride.to, i64 %a
  store i64 %step, ptr %step.to
  %count.next = mul i64 %count, %size
  %code.from = getelementptr i64, ptr %axes, i64 %a
  %code = load i64, ptr %code.from, !invariant.load !0
  %value = ashr i64 %code, $A_BITS
  %bind.bit = and i64 %code, $A_BIND               ; a bit for each kind: quicker than a table of jumps
  %binds = icmp ne i64 %bind.bit, 0
  br i1 %binds, label %axis.bind, label %axis.other

axis.other:
  %compare.bit = and i64 %code, $A_COMPARE
  %compares = icmp ne i64 %compare.bit, 0
  br i1 %compares, label %axis.compare, label %axis.fixed

axis.fixed:
  %leave.bit = and i64 %code, $A_LEAVE
  %leaves = icmp ne i64 %leave.bit, 0
  br i1 %leaves, label %axis.next, label %axis.constant

axis.constant:
  %constant.same = icmp eq i64 %size, %value
  br i1 %constant.same, label %axis.next, label %fallback

axis.bind:
  %bind.to = getelementptr i64, ptr %dims, i64 %value
  store i64 %size, ptr %bind.to
  br label %axis.next

axis.compare:
  %compare.from = getelementptr i64, ptr %dims, i64 %value
  %compare = load i64, ptr %compare.from
  %compare.same = icmp eq i64 %size, %compare
  br i1 %compare.same, label %axis.next, label %fallback

axis.next:
  %a.next = add nuw i64 %a, 1
  %a.more = icmp ult i64 %a.next, %rank
  br i1 %a.more, label %axis, label %param.next

maybe.scalar:
  %has.axes = icmp ne i64 %rank, 0
  br i1 %has.axes, label %fallback, label %scalar

scalar:                                          ; the kernel reads the number in the float object itself
  %dtype = word i64, %rec[1]
  %is.f64 = icmp eq i64 %dtype, 0
  %is.float = icmp eq ptr %type, @PyFloat_Type
  %plain = and i1 %is.f64, %is.float
  %float.at = getelementptr i8, ptr %obj, i64 $FLOAT_VALUE
  br i1 %plain, label %scalar.take, label %scalar.convert

scalar.convert:
  %scratch.word = word i64, %plan[$P_SCRATCH]
  %scratch = getelementptr i64, ptr %dims, i64 %scratch.word
  %scratch.p = getelementptr i64, ptr %scratch, i64 %p
  %converted = call preserve_mostcc ptr @convert_number(ptr %rec, ptr %obj, ptr %scratch.p)
  %inconvertible = icmp eq ptr %converted, null
  br i1 %inconvertible, label %fallback, label %scalar.take

scalar.take:
  %number.at = phi ptr [ %float.at, %scalar ], [ %converted, %scalar.convert ]
  store ptr %number.at, ptr %data.to
  br label %param.next

param.next:
  %taken = phi i64 [ 0, %array.take ], [ %count.next, %axis.next ], [ 0, %scalar.take ]
  %elements.next = add i64 %elements, %taken
  %stride.to.next = getelementptr i64, ptr %stride.to, i64 %rank
  %rec.next = getelementptr i64, ptr %axes, i64 %rank
  %p.next = add nuw i64 %p, 1
  %p.more = icmp ult i64 %p.next, %params
  br i1 %p.more, label %param, label %bound

; ---- sizes: the kernel's own functions compare polynomials and compute the shapes of the results

bound:
  %in.elements = phi i64 [ 0, %some.params ], [ 0, %number.take ], [ %elements.next, %param.next ]
  %wanted = word ptr, %plan[$P_WANTED]
  %sizes = word i64, %plan[$P_SIZES]
  %any.size = icmp eq ptr %wanted, null
  br i1 %any.size, label %sized, label %gate

gate:
  %gate.word = word ptr, %plan[$P_GATE]
  %closed = load i64, ptr %gate.word
  %open = icmp eq i64 %closed, 0
  br i1 %open, label %want, label %fallback

want:
  %s = phi i64 [ 0, %gate ], [ %s.next, %want.one ]
  %all.wanted = icmp eq i64 %s, %sizes
  br i1 %all.wanted, label %sized, label %want.one

want.one:
  %want.from = getelementptr i64, ptr %wanted, i64 %s
  %want.size = load i64, ptr %want.from
  %have.from = getelementptr i64, ptr %dims, i64 %s
  %have.size = load i64, ptr %have.from
  %s.next = add i64 %s, 1
  %as.wanted = icmp eq i64 %want.size, %have.size
  br i1 %as.wanted, label %want, label %fallback

sized:
  %check = word ptr, %plan[$P_CHECK]
  %no.check = icmp eq ptr %check, null
  br i1 %no.check, label %checked, label %do.check

do.check:
  %in.shapes = call preserve_mostcc ptr @note_shapes(ptr %plan, ptr %dims, ptr %args)
  %check.status = call i32 %check(ptr %dims, ptr %in.shapes)
  %check.good = icmp eq i32 %check.status, 0
  br i1 %check.good, label %checked, label %fallback

checked:
  %out.word = word i64, %plan[$P_OUT_SHAPES]
  %out.shapes = getelementptr i64, ptr %dims, i64 %out.word
  %shapes = word ptr, %plan[$P_SHAPES]
  %no.shapes = icmp eq ptr %shapes, null
  br i1 %no.shapes, label %shaped, label %do.shapes

do.shapes:
  %shapes.status = call i32 %shapes(ptr %dims, ptr %out.shapes)
  %shapes.good = icmp eq i32 %shapes.status, 0
  br i1 %shapes.good, label %shaped, label %fallback
"""

SELDOM_TEXT = """
; Where the kernel finds a number that is no float, or not to be one: in its object, or converted in a word of the
; frame; null where Python has to look.
define internal preserve_mostcc ptr @convert_number(ptr %rec, ptr %obj, ptr %word) noinline cold nounwind {
entry:
  %type = field ptr, %obj[$TYPE]
  %dtype = word i64, %rec[1]
  switch i64 %dtype, label %refuse [
    i64 0, label %f64
    i64 1, label %f32
    i64 2, label %i64
    i64 3, label %bool
  ]

f64:
  %f64.int = icmp eq ptr %type, @PyLong_Type
  br i1 %f64.int, label %f64.convert, label %numpy.scalar

f64.convert:
  %f64.value = call double @PyLong_AsDouble(ptr %obj)
  store double %f64.value, ptr %word
  %f64.suspect = fcmp oeq double %f64.value, -1.0
  br i1 %f64.suspect, label %suspect, label %converted

f32:
  %f32.float = icmp eq ptr %type, @PyFloat_Type
  br i1 %f32.float, label %f32.convert, label %numpy.scalar

f32.convert:
  %f32.wide = field double, %obj[$FLOAT_VALUE]
  %f32.value = fptrunc double %f32.wide to float
  store float %f32.value, ptr %word
  ret ptr %word

i64:
  %i64.int = icmp eq ptr %type, @PyLong_Type
  br i1 %i64.int, label %i64.convert, label %numpy.scalar

i64.convert:
  %i64.value = call i64 @PyLong_AsLongLong(ptr %obj)
  store i64 %i64.value, ptr %word
  %i64.suspect = icmp eq i64 %i64.value, -1
  br i1 %i64.suspect, label %suspect, label %converted

suspect:                                         ; -1, or an int that is too large
  %error = call ptr @PyErr_Occurred()
  %no.error = icmp eq ptr %error, null
  br i1 %no.error, label %converted, label %too.large

too.large:
  call void @PyErr_Clear()
  ret ptr null

converted:
  ret ptr %word

bool:
  %is.true = icmp eq ptr %obj, @_Py_TrueStruct
  %is.false = icmp eq ptr %obj, @_Py_FalseStruct
  %is.bool = or i1 %is.true, %is.false
  br i1 %is.bool, label %bool.take, label %numpy.scalar

bool.take:
  %bool.index = zext i1 %is.true to i64
  %bool.at = getelementptr i8, ptr @truth, i64 %bool.index
  ret ptr %bool.at

numpy.scalar:
  %scalar.want = word ptr, %rec[4]
  %scalar.same = icmp eq ptr %type, %scalar.want
  br i1 %scalar.same, label %numpy.scalar.take, label %refuse

numpy.scalar.take:
  %scalar.at = getelementptr i8, ptr %obj, i64 $SCALAR_VALUE
  ret ptr %scalar.at

refuse:
  ret ptr null
}

; The sizes of all axes of the arguments, written into the frame.
define internal preserve_mostcc ptr @note_shapes(ptr %plan, ptr %frame, ptr %args) noinline nounwind {
entry:
  %params = word i64, %plan[$P_PARAMS]
  %in.word = word i64, %plan[$P_IN_SHAPES]
  %in.shapes = getelementptr i64, ptr %frame, i64 %in.word
  %records = getelementptr i64, ptr %plan, i64 $P_RECORDS
  br label %param

param:
  %p = phi i64 [ 0, %entry ], [ %p.next, %param.next ]
  %rec = phi ptr [ %records, %entry ], [ %rec.next, %param.next ]
  %to = phi ptr [ %in.shapes, %entry ], [ %to.next, %param.next ]
  %p.more = icmp ult i64 %p, %params
  br i1 %p.more, label %some, label %done

some:
  %rank = word i64, %rec[0]
  %obj.at = getelementptr ptr, ptr %args, i64 %p
  %obj = load ptr, ptr %obj.at
  %scalar = icmp eq i64 %rank, 0
  br i1 %scalar, label %param.next, label %array

array:
  %shape = field ptr, %obj[$ARRAY_SHAPE]
  br label %axis

axis:
  %a = phi i64 [ 0, %array ], [ %a.next, %axis ]
  %from = getelementptr i64, ptr %shape, i64 %a
  %size = load i64, ptr %from
  %size.to = getelementptr i64, ptr %to, i64 %a
  store i64 %size, ptr %size.to
  %a.next = add nuw i64 %a, 1
  %a.more = icmp ult i64 %a.next, %rank
  br i1 %a.more, label %axis, label %param.next

param.next:
  %to.next = getelementptr i64, ptr %to, i64 %rank
  %axes = getelementptr i64, ptr %rec, i64 %rank
  %rec.next = getelementptr i64, ptr %axes, i64 5
  %p.next = add nuw i64 %p, 1
  br label %param

done:
  ret ptr %in.shapes
}
"""
