"""The LLVM IR of the pool of threads: what a caller does, and what its workers do.

A text in which `codegen.jit.pool`, which tells what all this promises, puts numbers and places for words that begin
with a dollar: places in the pool's memory, limits of the account and of waiting, and what the system calls by number.
"""

from __future__ import annotations

TEXT = """
@sd.pool = external global [$BYTES x i8], align 64

define i32 @sd.parallel(ptr %work, ptr %a, ptr %b, i64 %count, i64 %threads, i64 %amount) nounwind {
entry:
  %few = icmp sle i64 %count, 1
  %lone = icmp sle i64 %threads, 1
  %alone = or i1 %few, %lone
  br i1 %alone, label %serial, label %consult

consult:                                         ; balance, time to work alone, what a unit takes, calls
  %number = ptrtoint ptr %work to i64
  %units = call i64 @llvm.smax.i64(i64 %amount, i64 1)
  %magnitude = call i64 @llvm.ctlz.i64(i64 %units, i1 false)
  %turned = shl i64 %magnitude, 56
  %both = xor i64 %number, %turned
  %key = mul i64 %both, -7046029254386353131
  %account = call ptr @account(i64 %key)
  %owed.at = getelementptr i64, ptr %account, i64 1
  %alone.at = getelementptr i64, ptr %account, i64 2
  %calls.at = getelementptr i64, ptr %account, i64 3
  %always = load i64, ptr $ALWAYS
  %forced = icmp ne i64 %always, 0
  br i1 %forced, label %try, label %weigh

weigh:
  %calls = atomicrmw add ptr %calls.at, i64 1 monotonic
  %early = icmp ult i64 %calls, 2
  %round = urem i64 %calls, $TRIAL
  %again = icmp eq i64 %round, 0
  %owed = load atomic i64, ptr %owed.at monotonic, align 8
  %owes = icmp sgt i64 %owed, 0
  %trial = or i1 %early, %again
  %by.itself = or i1 %trial, %owes
  br i1 %by.itself, label %repay, label %try

repay:
  %repay.start = call i64 @now()
  %repay.status = call i32 %work(ptr %a, ptr %b, i64 0, i64 %count, i64 0)
  %repay.end = call i64 @now()
  %repaid = sub i64 %repay.end, %repay.start
  %part = select i1 %owes, i64 %repaid, i64 0
  %owed.before = atomicrmw sub ptr %owed.at, i64 %part monotonic
  %alone.old = load atomic i64, ptr %alone.at monotonic, align 8
  %fine = shl i64 %repaid, $FINE
  %each = sdiv i64 %fine, %units
  %twice = shl i64 %alone.old, 1
  %likely = call i64 @llvm.smin.i64(i64 %each, i64 %twice)
  %step = sub i64 %likely, %alone.old
  %quarter = sdiv i64 %step, 4
  %moved = add i64 %alone.old, %quarter
  %alone.new = select i1 %early, i64 %each, i64 %moved
  store atomic i64 %alone.new, ptr %alone.at monotonic, align 8
  ret i32 %repay.status

serial:
  %whole = call i32 %work(ptr %a, ptr %b, i64 0, i64 %count, i64 0)
  ret i32 %whole

try:
  %taken = cmpxchg ptr $BUSY, i64 0, i64 1 acq_rel monotonic
  %mine = extractvalue { i64, i1 } %taken, 1
  br i1 %mine, label %prepare, label %serial

prepare:
  %ready = load i64, ptr $READY
  %fresh = icmp eq i64 %ready, 0
  br i1 %fresh, label %init, label %workers

init:
  call i32 @pthread_mutex_init(ptr $MUTEX, ptr null)
  call i32 @pthread_cond_init(ptr $GO, ptr null)
  call i32 @pthread_cond_init(ptr $DONE, ptr null)
  store i64 1, ptr $READY
  br label %workers

workers:
  %processors = load i64, ptr $PROCESSORS
  %unknown = icmp eq i64 %processors, 0
  %unlimited = or i1 %unknown, %forced
  %fitting = call i64 @llvm.smin.i64(i64 %threads, i64 %processors)
  %used = select i1 %unlimited, i64 %threads, i64 %fitting
  %wanted = sub i64 %used, 1
  br label %count.workers

count.workers:
  %started = load i64, ptr $STARTED
  %lacking = icmp slt i64 %started, %wanted
  br i1 %lacking, label %create, label %publish

create:
  %handle = alloca i64
  %round.now = load atomic i64, ptr $ROUND monotonic, align 8
  %passed = inttoptr i64 %round.now to ptr
  %failed = call i32 @pthread_create(ptr %handle, ptr null, ptr @worker, ptr %passed)
  %good = icmp eq i32 %failed, 0
  br i1 %good, label %created, label %publish

created:
  %thread = load i64, ptr %handle
  call i32 @pthread_detach(i64 %thread)
  %more = add i64 %started, 1
  store i64 %more, ptr $STARTED
  br label %count.workers

publish:
  %parts = mul i64 %used, $SHARES
  %start = call i64 @now()
  call i32 @pthread_mutex_lock(ptr $MUTEX)
  store ptr %work, ptr $WORK
  store ptr %a, ptr $A
  store ptr %b, ptr $B
  store i64 %count, ptr $COUNT
  store i64 %parts, ptr $PARTS
  store i64 %wanted, ptr $LIMIT
  store i64 0, ptr $JOINED
  store i64 1, ptr $OPEN
  store atomic i64 0, ptr $NEXT monotonic, align 8
  store atomic i32 0, ptr $STATUS monotonic, align 4
  %old = atomicrmw add ptr $ROUND, i64 1 acq_rel
  %sleepers = load i64, ptr $ASLEEP
  %some = icmp ne i64 %sleepers, 0
  br i1 %some, label %wake, label %woken

wake:
  call i32 @pthread_cond_broadcast(ptr $GO)
  br label %woken

woken:
  call i32 @pthread_mutex_unlock(ptr $MUTEX)
  call void @pieces(i64 0)
  %finished = call i64 @now()
  call i32 @pthread_mutex_lock(ptr $MUTEX)
  store i64 0, ptr $OPEN
  call i32 @pthread_mutex_unlock(ptr $MUTEX)
  %idle = call i1 @watched(ptr $ACTIVE, i64 0, i1 true, i64 $PATIENCE, i64 $PATIENT_YIELDS)
  br i1 %idle, label %end, label %sleep           ; those that are in it finish a piece that is nearly done

sleep:
  call i32 @pthread_mutex_lock(ptr $MUTEX)
  store i64 1, ptr $WAITING
  br label %sleep.test

sleep.test:
  %active.now = load atomic i64, ptr $ACTIVE acquire, align 8
  %idle.now = icmp eq i64 %active.now, 0
  br i1 %idle.now, label %slept, label %sleep.wait

sleep.wait:
  call i32 @pthread_cond_wait(ptr $DONE, ptr $MUTEX)
  br label %sleep.test

slept:
  store i64 0, ptr $WAITING
  call i32 @pthread_mutex_unlock(ptr $MUTEX)
  br label %end

end:
  %end.time = call i64 @now()
  br i1 %forced, label %settled, label %settle

settle:
  %alone.each = load atomic i64, ptr %alone.at monotonic, align 8
  %alone.fine = mul i64 %alone.each, %units
  %alone.ns = ashr i64 %alone.fine, $FINE
  %own = sub i64 %finished, %start                ; a caller put to rest itself would have been so alone, too
  %own.most = shl i64 %alone.ns, 1
  %own.likely = call i64 @llvm.smin.i64(i64 %own, i64 %own.most)
  %waited = sub i64 %end.time, %finished
  %spent = add i64 %own.likely, %waited
  %gain = sub i64 %alone.ns, %spent
  %balance = load i64, ptr %account
  %sum = add i64 %balance, %gain
  %kept = call i64 @llvm.smin.i64(i64 %sum, i64 $MOST_CREDIT)
  %loses = icmp slt i64 %kept, $GRACE
  br i1 %loses, label %borrow, label %keep

keep:
  store i64 %kept, ptr %account
  br label %settled

borrow:
  %debt = mul i64 %kept, $REPAY
  %debt.most = call i64 @llvm.smin.i64(i64 %debt, i64 $LONGEST_DEBT)
  store i64 0, ptr %account
  store atomic i64 %debt.most, ptr %owed.at monotonic, align 8
  br label %settled

settled:
  %status = load atomic i32, ptr $STATUS acquire, align 4
  store atomic i64 0, ptr $BUSY release, align 8
  ret i32 %status
}

; The account of a key among those kept since the last program came: at its own place or in one of the next.
define internal ptr @account(i64 %key) noinline nounwind {
entry:
  %home = lshr i64 %key, $HASH_SHIFT
  %programs = load atomic i64, ptr $PROGRAMS monotonic, align 8
  %now = add i64 %programs, 1                     ; an empty place is older than any program
  br label %look
look:
  %n = phi i64 [ 0, %entry ], [ %n.next, %other ]
  %sum = add i64 %home, %n
  %place = and i64 %sum, $LAST_ACCOUNT
  %account = getelementptr [8 x i64], ptr $LEDGER, i64 %place
  %whose.at = getelementptr i64, ptr %account, i64 4
  %since.at = getelementptr i64, ptr %account, i64 5
  %whose = load atomic i64, ptr %whose.at monotonic, align 8
  %since = load atomic i64, ptr %since.at monotonic, align 8
  %kept = icmp eq i64 %since, %now
  br i1 %kept, label %compare, label %anew
compare:
  %known = icmp eq i64 %whose, %key
  br i1 %known, label %found, label %other
other:
  %n.next = add i64 %n, 1
  %more = icmp ult i64 %n.next, $PLACES
  br i1 %more, label %look, label %anew
anew:
  call void @llvm.memset.p0.i64(ptr %account, i8 0, i64 32, i1 false)
  store atomic i64 %key, ptr %whose.at monotonic, align 8
  store atomic i64 %now, ptr %since.at monotonic, align 8
  br label %found
found:
  ret ptr %account
}

define internal i64 @now() noinline nounwind {
  %time = alloca [2 x i64], align 8
  call i32 @clock_gettime(i32 $CLOCK, ptr %time)
  %nanoseconds.at = getelementptr i64, ptr %time, i64 1
  %seconds = load i64, ptr %time
  %nanoseconds = load i64, ptr %nanoseconds.at
  %whole = mul i64 %seconds, 1000000000
  %sum = add i64 %whole, %nanoseconds
  ret i64 %sum
}

; Look at a place until it holds a number, or (unequal) something else, others running in between after so many looks;
; whether that came within so many further looks.
define internal i1 @watched(ptr %place, i64 %number, i1 %equal, i64 %looks, i64 %yields) noinline nounwind {
entry:
  %most = add i64 %looks, %yields
  br label %look
look:
  %n = phi i64 [ 0, %entry ], [ %n.next, %wait ], [ %n.next, %yield ]
  %held = load atomic i64, ptr %place acquire, align 8
  %same = icmp eq i64 %held, %number
  %come = icmp eq i1 %same, %equal
  br i1 %come, label %end, label %wait
wait:
  $PAUSE
  %n.next = add i64 %n, 1
  %soon = icmp slt i64 %n.next, %looks
  br i1 %soon, label %look, label %slowly
slowly:
  %patient = icmp slt i64 %n.next, %most
  br i1 %patient, label %yield, label %end
yield:
  call i32 @sched_yield()
  br label %look
end:
  ret i1 %come
}

; Take pieces until none is left.
define internal void @pieces(i64 %thread) noinline nounwind {
entry:
  %work = load ptr, ptr $WORK
  %a = load ptr, ptr $A
  %b = load ptr, ptr $B
  %count = load i64, ptr $COUNT
  %parts = load i64, ptr $PARTS
  br label %head
head:
  %from = load atomic i64, ptr $NEXT monotonic, align 8
  %left = sub i64 %count, %from
  %some = icmp sgt i64 %left, 0
  br i1 %some, label %take, label %end
take:
  %share = sdiv i64 %left, %parts
  %piece = call i64 @llvm.smax.i64(i64 %share, i64 1)
  %to = add i64 %from, %piece
  %exchange = cmpxchg ptr $NEXT, i64 %from, i64 %to acq_rel monotonic
  %mine = extractvalue { i64, i1 } %exchange, 1
  br i1 %mine, label %body, label %head
body:
  %status = call i32 %work(ptr %a, ptr %b, i64 %from, i64 %to, i64 %thread)
  %good = icmp eq i32 %status, 0
  br i1 %good, label %head, label %bad
bad:
  %before = atomicrmw umax ptr $STATUS, i32 %status acq_rel
  br label %head
end:
  ret void
}

define internal ptr @worker(ptr %round) nounwind {
entry:
  %signals = alloca [128 x i8], align 16
  call void @llvm.memset.p0.i64(ptr %signals, i8 -1, i64 128, i1 false)
  call i32 @pthread_sigmask(i32 $SIG_BLOCK, ptr %signals, ptr null)
  %first = ptrtoint ptr %round to i64
  br label %watch

watch:
  %seen = phi i64 [ %first, %entry ], [ %current, %rest ], [ %current, %leave ]
  call i1 @watched(ptr $ROUND, i64 %seen, i1 false, i64 $SPINS, i64 $YIELDS)
  br label %lock

lock:
  call i32 @pthread_mutex_lock(ptr $MUTEX)
  br label %test

test:
  %current = load atomic i64, ptr $ROUND acquire, align 8
  %old = icmp eq i64 %current, %seen
  br i1 %old, label %wait, label %join

wait:
  %asleep = load i64, ptr $ASLEEP
  %asleep.more = add i64 %asleep, 1
  store i64 %asleep.more, ptr $ASLEEP
  call i32 @pthread_cond_wait(ptr $GO, ptr $MUTEX)
  %awake = load i64, ptr $ASLEEP
  %awake.less = sub i64 %awake, 1
  store i64 %awake.less, ptr $ASLEEP
  br label %test

join:
  %open = load i64, ptr $OPEN
  %is.open = icmp ne i64 %open, 0
  %joined = load i64, ptr $JOINED
  %limit = load i64, ptr $LIMIT
  %room = icmp slt i64 %joined, %limit
  %in = and i1 %is.open, %room
  br i1 %in, label %enter, label %rest

rest:
  call i32 @pthread_mutex_unlock(ptr $MUTEX)
  br label %watch

enter:
  %number = add i64 %joined, 1
  store i64 %number, ptr $JOINED
  %before = atomicrmw add ptr $ACTIVE, i64 1 acq_rel
  call i32 @pthread_mutex_unlock(ptr $MUTEX)
  call void @pieces(i64 %number)
  call i32 @pthread_mutex_lock(ptr $MUTEX)
  %after = atomicrmw sub ptr $ACTIVE, i64 1 acq_rel
  %last = icmp eq i64 %after, 1
  %waiting = load i64, ptr $WAITING
  %awaited = icmp ne i64 %waiting, 0
  %tell = and i1 %last, %awaited
  br i1 %tell, label %signal, label %leave

signal:
  call i32 @pthread_cond_signal(ptr $DONE)
  br label %leave

leave:
  call i32 @pthread_mutex_unlock(ptr $MUTEX)
  br label %watch
}

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_signal(ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @clock_gettime(i32, ptr)
declare i32 @sched_yield()
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.ctlz.i64(i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
"""
