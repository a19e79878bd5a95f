-- Tasks run user code. A task is one greenlet with one Lua coroutine; it serves a session, a worker or a fiber.
--
-- Invariants:
-- * Lua reaches Python only through ports (`PORT[argument]`). A port may switch to another greenlet. So each function here
--   that reads such a port sets `current` and `critical` again afterwards. Other files use block().
-- * Cancellation is a flag that ports and the count hook return, never a Python exception. Here it becomes the KILL error,
--   which no pcall of user code can swallow.
--
-- Longer than usual: the running task is a local variable, and all code that sets it, or reads it after a switch, is here.
-- Needs: kernel/guard
local internal, PARK, TICK, TURN, LET_IN, COLLECTED, CALL, MAKE_ROOM, KEEP_LIMIT, GIVE_ALL, HAS_ROOM = ...
local raw = internal.raw
local error, raw_pcall, raw_xpcall, select, type = raw.error, raw.pcall, raw.xpcall, raw.select, raw.type
local co_create, co_resume, co_status, co_yield, co_running = raw.co_create, raw.co_resume, raw.co_status, raw.co_yield,
    raw.co_running
local getregistry, next, rawequal = raw.getregistry, raw.next, raw.rawequal
local collectgarbage, sethook, setmetatable, tostring, unpack = raw.collectgarbage, raw.sethook, raw.setmetatable,
    raw.tostring, raw.unpack

-- HOOK_COUNT: VM instructions between two calls of the hook, which reads the clock. That is about 20 us of ordinary code,
-- and costs 4 % of its speed. If a few instructions take long, Python's monitor requests a hook call (interrupt.py). It
-- cannot reach coroutines that users make. Their count is COROUTINE_COUNT or less: it shrinks as memory use (KiB) grows,
-- since one instruction can then compare longer strings (some 5 ns a byte at worst).
local HOOK_COUNT, COROUTINE_COUNT, LEAST_COUNT, COROUTINE_KB = 2000, 300, 2, 2^18

-- The error value of a cancelled statement. It is a private table, so that user code can neither raise nor recognise it.
local KILL = setmetatable({}, {__tostring = function() return 'cancelled' end, __metatable = false})
internal.KILL = KILL

-- Task record by its own coroutine. Users must not resume, wrap or kill these coroutines.
local owned = setmetatable({}, {__mode = 'k'})

-- The running task. Before the first session it is `background`, whose session has id 0.
local background = {fid = 0, session = {id = 0, type = 'background', fd = -1, user = 'admin', uid = 1, login = 1, level = 3,
                                        scope = false, chosen_scope = false, dialect = 'tarantool'}}
local current = background
internal.background = background.session
-- True while trusted code must not be interrupted: the hook then returns without reading the clock.
local critical = false

local task = {}
internal.task = task

-- Identity by coroutine, if its code runs as another user than the session's (access.lua). Coroutines that this code makes
-- inherit it.
local credentials = setmetatable({}, {__mode = 'k'})
task.credentials = credentials

function task.current()
    return current
end

-- Raises KILL if the current task is cancelled.
local function check()
    if current.killed and current.user_code then
        return error(KILL, 0)
    end
end
task.check = check

-- Compiled chunks by statement text. A chunk is removed when its statement waits or is preempted: while it is suspended,
-- another session must not run the same chunk.
local chunks = {}
task.chunks = chunks

-- Returns the chunk of a text for `me` to run, or nil. Atomic: otherwise another session could take the same chunk before
-- it is noted in `me`.
function task.find_chunk(me, text)
    critical = true
    local chunk = chunks[text]
    if chunk then
        me.chunk, me.text = chunk, text
    end
    critical = false
    return chunk
end

-- Keeps the chunk of a text, which `me` will run. Atomic for the same reason.
function task.keep_chunk(me, text, chunk)
    critical = true
    chunks[text] = chunk
    me.chunk, me.text = chunk, text
    critical = false
end

local function unshare(me)
    -- me.chunk is cleared last: if the hook runs in between, its own unshare() then does both.
    chunks[me.text] = nil
    me.chunk = false
    if me.batch then
        task.give_back(me)          -- in requests.lua
    end
end

-- Reads a port that may switch. A port raises nothing, but the read raises if the C stack is full, and any call raises if
-- the Lua stack or the memory is full. So callers use a pcall, and `critical` is set inside it, after these checks.
local function read(port, argument)
    critical = true
    return port[argument]
end

-- The memory limit -----------------------------------------------------------------------------------------------------
--
-- The allocator's limit is always in force. Python makes room before it puts a value into Lua, and adds the flag TIGHT to
-- the operation if it had to lift the limit for that. keep_limit() puts the limit back before user code runs, whose
-- allocations over the limit then fail. Trusted code that must not fail asks for room first.

local contract = internal.contract
local TIGHT, COLLECT, CLOSELY = contract.TIGHT, contract.COLLECT, contract.CLOSELY
local ROOM = 2^18              -- bytes that trusted code may need at once
-- The collector makes one step for each allocation that is due, whatever its size. With the default step, a few large
-- strings could fill the memory before a cycle ends. With steps of some 100 KB (0.2 ms) they cannot, and ordinary code is
-- slightly faster.
collectgarbage('setstepmul', 10000)
local NO_ROOM = contract.NO_ROOM
local OUT_OF_MEMORY = 'not enough memory'
internal.OUT_OF_MEMORY = OUT_OF_MEMORY
-- The same for clients and for the log.
local OUT_OF_MEMORY_SHOWN = OUT_OF_MEMORY .. ' (limits.lua_memory_bytes)'
internal.OUT_OF_MEMORY_SHOWN = OUT_OF_MEMORY_SHOWN

-- Memory use (KiB) below which trusted code needs no check. Python sends it whenever the limit changes.
local ample = 0
function internal.take_ample()
    while true do
        ample = co_yield('')
    end
end

-- Lifts the limit if memory is short, so that trusted code can report an error. `for_want_of_it`: the error is
-- OUT_OF_MEMORY, which Python counts.
function task.make_room(for_want_of_it)
    if for_want_of_it or collectgarbage('count') > ample then
        local _ = MAKE_ROOM[for_want_of_it and 1 or 0]
    end
end

-- Lifts the limit in any case, for trusted code that runs after user code. User code may have filled the limit in force,
-- which can be lower than `ample`.
function task.lift_limit()
    local _ = MAKE_ROOM[0]
end

local function keep_limit()
    local _ = KEEP_LIMIT[0]
end
task.keep_limit = keep_limit

-- Calls func(...) with the whole memory limit available. Like pcall. `func` must be as short as a C function: the hook
-- returns at once meanwhile, since a look at the clock would lower the limit again. The collector does not pause between
-- cycles meanwhile; otherwise it waits until memory use has grown by half.
local PAUSE, NO_PAUSE = 150, 100
local function with_it(func, ...)
    critical = true
    local _ = GIVE_ALL[0]
    return func(...)
end
local function without_it(...)
    critical = false
    collectgarbage('setpause', PAUSE)
    keep_limit()
    return ...
end
function task.with_all_room(func, ...)
    collectgarbage('setpause', NO_PAUSE)
    return without_it(raw_pcall(with_it, func, ...))
end

-- Why reading a port failed. It is KILL if the hook ended the task at the last instruction before the read.
local function unread(problem)
    return (problem == OUT_OF_MEMORY or problem == KILL) and problem or 'stack overflow'
end

-- Reads a port that may switch. Returns its answer; raises KILL if the task was cancelled meanwhile.
local function block(port, argument)
    local me = current
    if me.chunk then
        unshare(me)
    end
    local ok, result = raw_pcall(read, port, argument)
    current, critical = me, false
    if not ok then
        return error(unread(result), 0)
    end
    if result == false then
        me.killed = true
        if me.user_code then
            return error(KILL, 0)
        end
    end
    return result
end
task.block = block

-- Completes the record of a new task: its id (Tarantool keeps ids up to 100 for system fibers), and all fields that this
-- file uses. They are set here so that setting them later allocates no memory.
local last_fid = 100
function task.new_record(record)
    -- Otherwise the hook could switch between the next two lines, and another task would take the same id.
    local was_critical = critical
    critical = true
    last_fid = last_fid + 1
    local fid = last_fid
    critical = was_critical
    record.fid = fid
    record.chunk, record.text, record.showing, record.failed = false, '', false, false
    record.killed, record.thrown, record.user_code = false, false, false
    record.batch = record.batch or false
    record.keeps_limit, record.is_fresh, record.is_due = false, false, false
    return record
end

-- Makes the running coroutine's stacks grow now, while memory is available.
local function grow_stack(depth)
    if depth > 0 then
        return (grow_stack(depth - 1))
    end
end
task.grow_stack = grow_stack

-- Whether lock() lifted the limit, so that unlock() must put it back.
local lifted = false
local LOCK_DEPTH = 10

-- Between lock() and unlock() no other task runs, and this one is not cancelled. Use it if a check and the change or wait
-- that follows must be atomic. Nothing in between may raise: if a stack or the memory is nearly full, lock() raises.
function task.lock()
    -- Set before room is made: a task that ran in between would put the limit back and remove this room.
    critical = true
    local is_short = collectgarbage('count') > ample
    if is_short then
        if HAS_ROOM[ROOM] == false then
            critical = false
            return error(OUT_OF_MEMORY, 0)
        end
        local _ = MAKE_ROOM[0]
    end
    local outer, inner = raw_pcall(raw_pcall, grow_stack, LOCK_DEPTH)
    if not (outer and inner) then
        if is_short then
            keep_limit()
        end
        critical = false
        return error('stack overflow', 0)
    end
    lifted = is_short and current.user_code
end

function task.unlock()
    critical = false
    if lifted then
        lifted = false
        keep_limit()
    end
end

-- Sets list[key] to `value` unless it has a value, and returns the value that it then has. For values that two tasks may
-- create at the same time.
function task.first(list, key, value)
    task.lock()
    local known = list[key]
    if known == nil then
        known, list[key] = value, value
    end
    task.unlock()
    return known
end

local function park(me, seconds)
    local ok, alive = raw_pcall(read, PARK, seconds)
    current, critical = me, true
    if ok and alive == false then
        me.killed = true
    end
    return ok and alive
end

-- Waits under the lock, which is released during the wait and taken again afterwards. Returns false if the task was
-- cancelled.
function task.park_locked(seconds)
    local me = current
    if me.chunk then
        unshare(me)
    end
    -- Other tasks have cleared `critical`. Until it is set again the hook may raise KILL, once; this pcall catches it.
    local ok, alive = raw_pcall(park, me, seconds)
    current, critical = me, true
    lifted = false
    if collectgarbage('count') > ample then
        lifted = me.user_code
        task.make_room()
    end
    return ok and alive
end

-- Waits for `seconds`, or until woken; with 0, until the task's next turn.
function task.park(seconds)
    return block(PARK, seconds)
end

-- Reads a port whose answer is a string, which needs memory.
local function text(port, argument)
    local answer = block(port, argument)
    if answer == NO_ROOM then
        return error(OUT_OF_MEMORY, 0)
    end
    if current.user_code and collectgarbage('count') > ample then
        keep_limit()
    end
    return answer
end
task.text = text

-- Calls an exposed Python function. The request and the answer are packed strings.
function task.call_python(request)
    return text(CALL, request)
end

-- Records of live tasks by id.
local records = setmetatable({}, {__mode = 'v'})

local function let_in(me, always)
    if me.chunk then
        unshare(me)
    end
    local ok, answer = raw_pcall(read, LET_IN, always)
    current, critical = me, false
    return ok and answer
end

local function collected(me)
    raw_pcall(read, COLLECTED, 0)
    current, critical = me, false
end

-- Collects all garbage in steps, and lets other tasks run in between: a collection can take a second if memory is full of
-- small objects. (Marking one large table is a single step.) Ends early if the task is cancelled, or if another task
-- finishes a collection. A cycle that was already under way may have marked objects that are garbage by now. So if memory
-- use is `enough` KiB or more after the first cycle, a second one follows. The memory limit is lifted meanwhile; COLLECTED
-- puts it back.
local CYCLES = 2
-- How many steps were made and collections finished, by all tasks.
local steps, collections = 0, 0
local function collect_by_steps(me, enough)
    local cycles, before = 0, collections
    repeat
        local done, is_cycle = raw_pcall(collectgarbage, 'step', 0)
        if is_cycle == true then
            cycles = cycles + (collectgarbage('count') < enough and CYCLES or 1)
        end
        steps = steps + 1
    until not (let_in(me, false) and done) or cycles >= CYCLES or collections ~= before
    if cycles >= CYCLES then
        collections = collections + 1
    end
end

-- Collects because memory is full, after other tasks have run. If another task is collecting (`steps` has grown), waits
-- until that collection ends instead.
function task.collect()
    local me, before = current, collections
    local seen, alive
    repeat
        seen = steps
        alive = let_in(me, true)
    until not alive or steps == seen or collections ~= before
    if alive and collections == before then
        collect_by_steps(me, ample / 2)
    end
    collected(me)
end

-- Collects because user code calls collectgarbage().
function task.collect_now()
    task.lift_limit()
    collect_by_steps(current, 0)
    collected(current)
end

-- TICK answers for the running greenlet; contract.py documents its argument and answer. (TURN lets other tasks run, and
-- answers again.) The hook does not trust `current`: between a port's return and the line that restores `current`, it is
-- another task.
local OWN_LOOK, FIRST_LOOK, CALLED = contract.OWN_LOOK, contract.FIRST_LOOK, contract.CALLED
local LATE, OVER, ASKED, MANY = contract.LATE, contract.OVER, contract.ASKED, contract.MANY
-- After how many hook calls KILL is raised again, if something swallowed it. Not sooner: after the outer pcall of
-- task.run() a few instructions run before `user_code` is cleared, and the hook may be called at each of them.
local THROWN_AGAIN = 20
local function coroutine_count()
    local count = COROUTINE_KB / collectgarbage('count')
    count = count - count % 1
    return count > COROUTINE_COUNT and COROUTINE_COUNT or count < LEAST_COUNT and LEAST_COUNT or count
end

-- `event` is nil if trusted code calls it.
local function hook(event)
    -- Trusted code outside task.run() is not preempted: it is short, and would lose its room if other tasks ran. It runs in
    -- the task's own coroutine, by which its task is found; `current` may still be another task. In a coroutine that a user
    -- made, `me` is nil.
    local me = owned[co_running()]
    if critical then
        -- The hook is called at each instruction until the critical section ends. Otherwise a loop of HOOK_COUNT
        -- instructions could be in its critical section at each hook call.
        sethook(hook, '', 1)
        if me then
            me.is_due = true
        end
        return
    elseif me and not me.user_code then
        return
    end
    local where = 0
    if me then
        where, me.is_fresh = (me.is_fresh and FIRST_LOOK or OWN_LOOK) + (event and 0 or CALLED), false
        if me.is_due then
            me.is_due = false
            sethook(hook, '', HOOK_COUNT)
        end
    end
    local ok, fid = raw_pcall(read, TICK, where)
    if not me then
        me = current
        sethook(hook, '', coroutine_count())
    elseif ok and fid and fid < 0 then
        -- The monitor may have set the hook to each instruction. KILL would then be raised again while it propagates.
        sethook(hook, '', HOOK_COUNT)
    end
    if ok and fid and fid % 1 ~= 0 then
        if fid % 1 >= LATE then
            current, critical = records[fid - fid % 1] or me, false
            task.collect()
            fid = fid - LATE
        end
        if fid % ASKED ~= 0 then
            fid = fid - MANY
            task.collect_sooner()
        end
        if fid % OVER ~= 0 then
            fid = fid - ASKED
            sethook(hook, '', HOOK_COUNT)
        end
        if fid % 1 ~= 0 then
            me = records[fid - OVER] or me
            if me.chunk then
                unshare(me)
            end
            ok, fid = raw_pcall(read, TURN, 0)
            if ok and fid and fid > 0 and me.cancelled then
                -- A fiber cancelled by fiber.cancel() has used a whole slice without a wait: it ends now.
                fid = -fid
            end
        end
    end
    if not ok then
        current, critical = me, false
        if not me.user_code then
            return
        end
        -- The stack is too full to read the port. The error unwinds it; otherwise this code could never be interrupted.
        return error(unread(fid), 0)
    end
    me = fid and records[fid < 0 and -fid or fid] or me
    current, critical = me, false
    if me.batch then
        me.batch.looks = me.batch.looks + 1
    end
    if fid and fid < 0 and me.user_code then
        -- KILL is raised once and then propagates. It is raised again only if something swallowed it.
        me.killed, me.thrown = true, (me.thrown or 0) + 1
        if me.thrown == 1 or me.thrown > THROWN_AGAIN then
            me.thrown = 1
            return error(KILL, 0)
        end
    end
end

-- Called when memory use is large: the next cycle begins when it has grown by half, not doubled.
function task.collect_sooner()
    collectgarbage('setpause', PAUSE)
end

-- Does what the flags added to an operation ask for, and returns the operation without them. With TIGHT, Python has lifted
-- the limit: `keeps_limit` makes task.run() put it back before user code runs.
local STACK_DEPTH = 40
function task.make_ready(me, operation)
    if operation >= CLOSELY then
        task.collect_sooner()
        operation = operation - CLOSELY
    end
    if operation < TIGHT then
        return operation
    end
    if operation >= COLLECT then
        operation = operation - COLLECT
        collect_by_steps(me, ample / 2)
    end
    me.keeps_limit = true
    grow_stack(STACK_DEPTH)
    return operation - TIGHT
end

-- Reads the clock now: for use after a C function that may have taken long.
function internal.look()
    return hook()
end

-- Makes the running coroutine the task's own. Called once, when the coroutine starts.
function task.adopt(record)
    owned[co_running()] = record
    records[record.fid] = record
    sethook(hook, '', HOOK_COUNT)
    current = record
end

-- While `user_code` is set, the hook may raise KILL between any two instructions, also just before and after the inner
-- pcall (in enter()). The outer pcall (in task.run()) catches that.

local function leave(me, ...)
    me.user_code = false
    return ...
end

local function enter(me, func, ...)
    me.user_code = true
    return leave(me, raw_pcall(func, ...))
end

local function result(me, entered, ...)
    critical = false
    if entered then
        return ...
    end
    me.user_code = false
    return false, KILL
end

-- Runs func(...) as user code of `me`. Like pcall; if the task is cancelled, the error is KILL.
function task.run(me, func, ...)
    if me.keeps_limit then
        me.keeps_limit = false
        keep_limit()
    end
    current, critical = me, false
    me.killed, me.thrown = false, false
    return result(me, raw_pcall(enter, me, func, ...))
end

-- Calls func(...), which must be short and need little memory. Cancellation cannot interrupt it; KILL is raised after it.
function task.to_the_end(func, ...)
    local me = current
    local is_users = me.user_code
    if collectgarbage('count') > ample and HAS_ROOM[ROOM] == false then
        return error(OUT_OF_MEMORY, 0)
    end
    me.user_code = false
    local ok, problem = raw_pcall(func, ...)
    me.user_code = is_users
    if is_users and collectgarbage('count') > ample then
        keep_limit()
    end
    check()
    if not ok then
        critical = false
        return error(problem, 0)
    end
end

-- Converts an error value to text. An error object's __tostring is user code, so it runs in task.run().
function task.text_of(me, value)
    if type(value) == 'string' then
        return value == OUT_OF_MEMORY and OUT_OF_MEMORY_SHOWN or value
    end
    local ok, text = task.run(me, tostring, value)
    return ok and type(text) == 'string' and text or 'an error that cannot be shown'
end

-- pcall, xpcall and coroutines as users get them. They raise KILL again if the task was cancelled inside them.

local strip_position = internal.strip_position
local function protected(ok, ...)
    if current.killed then
        check()
    end
    if not ok then
        -- An error raised under the lock leaves `critical` set; user code must run without it.
        critical = false
        local message = ...
        if type(message) == 'string' then
            return ok, strip_position(message)
        end
    end
    return ok, ...
end

-- pcall for trusted code that calls a user's function inside a statement.
function task.protected(...)
    return protected(raw_pcall(...))
end

function _G.pcall(...)
    if select('#', ...) == 0 then
        return error("bad argument #1 to 'pcall' (value expected)", 2)
    end
    return protected(raw_pcall(...))
end

local function call_protected(func, handler, ...)
    local function guarded(message)
        critical = false
        if message == KILL then
            return KILL
        end
        return handler(message)
    end
    local count = select('#', ...)
    if count == 0 then
        return protected(raw_xpcall(func, guarded))
    end
    -- xpcall of Lua 5.1 passes no arguments to the function; LuaJIT's does.
    local arguments = {...}
    return protected(raw_xpcall(function() return func(unpack(arguments, 1, count)) end, guarded))
end

function _G.xpcall(...)
    local _, handler = ...
    if select('#', ...) == 0 then
        return error("bad argument #1 to 'xpcall' (value expected)", 2)
    end
    if type(handler) ~= 'function' then
        return error("bad argument #2 to 'xpcall' (function expected, got "
                     .. (select('#', ...) < 2 and 'no value' or type(handler)) .. ')', 2)
    end
    return call_protected(...)
end

-- Lua's debug library keeps each coroutine's hook in a table by the coroutine's address, and never removes one. So every
-- REBUILD_COUNT new coroutines the table is emptied, and the hooks of live coroutines are set again.
local REBUILD_COUNT = 5000
local made, made_count = setmetatable({}, {__mode = 'k'}), 0
local hook_table

local function find_hook_table()
    for _, value in next, getregistry() do
        if type(value) == 'table' then
            for _, inner in next, value do
                if rawequal(inner, hook) then
                    return value
                end
            end
        end
    end
end

local function rebuild_hooks()
    critical = true
    made_count = 0
    hook_table = hook_table or find_hook_table()
    for address in next, hook_table do
        hook_table[address] = nil
    end
    for co in next, owned do
        sethook(co, hook, '', HOOK_COUNT)
    end
    for co in next, made do
        if co_status(co) ~= 'dead' then
            sethook(co, hook, '', COROUTINE_COUNT)
        end
    end
end

local function create(name, ...)
    local func = ...
    if type(func) ~= 'function' then
        return error("bad argument #1 to '" .. name .. "' (function expected, got "
                     .. (select('#', ...) == 0 and 'no value' or type(func)) .. ')', 3)
    end
    -- coroutine.create of Lua 5.1 refuses C functions.
    local ok, co = raw_pcall(co_create, func)
    if not ok then
        co = co_create(function(...) return func(...) end)
    end
    sethook(co, hook, '', COROUTINE_COUNT)
    made[co] = true
    -- A coroutine keeps the identity of the code that made it, whoever resumes it.
    credentials[co] = credentials[co_running()] or current.session.maker
    made_count = made_count + 1
    if made_count >= REBUILD_COUNT then
        -- If memory ran out halfway, some coroutines would stay without a hook.
        critical = true
        task.make_room()
        raw_pcall(rebuild_hooks)
        critical = false
        if collectgarbage('count') > ample then
            keep_limit()
        end
    end
    return co
end

-- Makes a coroutine in which trusted code runs a user's function.
function task.new_coroutine(func)
    return (create('create', func))
end

-- For callers that have caught an error: one raised under the lock leaves `critical` set.
function task.uncritical()
    critical = false
end

-- Like coroutine.resume, for coroutines of create(). Sets the hook count by the memory in use now.
local function resume(co, ...)
    sethook(co, hook, '', coroutine_count())
    return co_resume(co, ...)
end
task.resume = resume

function coroutine.create(...)
    local co = create('create', ...)
    return co
end

function coroutine.resume(co, ...)
    if type(co) ~= 'thread' then
        return error("bad argument #1 to 'resume' (coroutine expected)", 2)
    end
    if owned[co] then
        return false, 'cannot resume non-suspended coroutine'
    end
    return protected(resume(co, ...))
end

local function unwrap(ok, ...)
    if current.killed then
        check()
    end
    if ok then
        return ...
    end
    critical = false
    return error((...), 0)
end

local DEAD = 'cannot resume dead coroutine'
function coroutine.wrap(...)
    local co = create('wrap', ...)
    return function(...)
        if co_status(co) == 'dead' then
            return error(DEAD, 2)
        end
        return unwrap(resume(co, ...))
    end
end

function coroutine.isyieldable()
    local co = co_running()
    return co ~= nil and not owned[co]
end

function coroutine.yield(...)
    if owned[co_running()] then
        return error('attempt to yield across C-call boundary', 0)
    end
    return co_yield(...)
end

function coroutine.running()
    local co = co_running()
    if owned[co] then
        return nil
    end
    return co
end

-- Without these checks, a thread argument would let a user read the stack of another session's coroutine, and a level far
-- below 0 would loop for ever in C.
local raw_traceback = raw.traceback
function debug.traceback(...)
    local message, level = ...
    if type(message) == 'thread' then
        if owned[message] then
            return error("bad argument #1 to 'traceback' (not your coroutine)", 2)
        end
        return level == nil and raw_traceback(message) or raw_traceback(message, level)
    end
    if message ~= nil and type(message) ~= 'string' and type(message) ~= 'number' then
        return message
    end
    if level ~= nil and type(level) ~= 'number' then
        return error("bad argument #2 to 'traceback' (number expected, got " .. type(level) .. ')', 2)
    end
    level = level and level >= 0 and level < 1000 and level or 1
    local text = raw_traceback(message or '', level + 1)
    return message and text or raw.sub(text, 2)
end
