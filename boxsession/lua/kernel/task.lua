-- Tasks: what runs user code. One task is one greenlet with one Lua coroutine (a session's, or a fiber's).
--
-- Lua reaches Python through ports only (`PORT[argument]`); a port may switch to another greenlet, so after every port
-- call that can switch, `current` is put back by the one function that calls it: block(). Cancelling is a flag that
-- the ports and the count hook answer with, never a Python exception; here it becomes the KILL error, which no pcall
-- of the user's can swallow.
--
-- Longer than usual: which task runs is one local variable, and all that sets it, or reads it behind a switch, is here.
-- Needs: kernel/guard
local internal, PARK, TICK, TURN, LET_IN, COLLECTED, CALL, MAKE_ROOM, KEEP_LIMIT, GIVE_ALL, HAS_ROOM = ...
local raw = internal.raw
local error, raw_pcall, raw_xpcall, select, type = raw.error, raw.pcall, raw.xpcall, raw.select, raw.type
local co_create, co_resume, co_status, co_yield, co_running = raw.co_create, raw.co_resume, raw.co_status, raw.co_yield,
    raw.co_running
local getregistry, next, rawequal = raw.getregistry, raw.next, raw.rawequal
local collectgarbage, sethook, setmetatable, tostring, unpack = raw.collectgarbage, raw.sethook, raw.setmetatable,
    raw.tostring, raw.unpack

-- How many VM instructions pass between two looks at the clock: about 20 us of ordinary code, 4 % of its speed. Where a few of
-- them take long, Python's monitor asks for the next look (interrupt.py). It cannot reach the coroutines of users: there they
-- are fewer, the fewer the longer the strings may be that one instruction compares (some 5 ns a byte at worst).
local HOOK_COUNT, COROUTINE_COUNT, LEAST_COUNT, COROUTINE_KB = 2000, 300, 2, 2^18

-- The error value of a cancelled statement: a private table, so that no user code can raise or recognise it.
local KILL = setmetatable({}, {__tostring = function() return 'cancelled' end, __metatable = false})
internal.KILL = KILL

-- The tasks of coroutines that belong to tasks: those must not be resumed, wrapped or killed by users.
local owned = setmetatable({}, {__mode = 'k'})

-- The task whose code runs now. Before the first session it is the background: no session, id 0.
local background = {fid = 0, session = {id = 0, type = 'background', fd = -1, user = 'admin', uid = 1, login = 1, level = 3,
                                        scope = false, chosen_scope = false, dialect = 'tarantool'}}
local current = background
internal.background = background.session
-- True while trusted code must not be interrupted: the hook then returns at once.
local critical = false

local task = {}
internal.task = task

-- Who the code of a coroutine runs as, where that is not its session's user (access.lua). What it makes inherits it.
local credentials = setmetatable({}, {__mode = 'k'})
task.credentials = credentials

function task.current()
    return current
end

-- Raises what a cancelled task ends with.
local function check()
    if current.killed and current.user_code then
        return error(KILL, 0)
    end
end
task.check = check

-- Compiled chunks by statement text, for statements that are not switched away from: while one waits, another session must
-- not run the same chunk.
local chunks = {}
task.chunks = chunks

-- The chunk of a text, which `me` is going to run, or nil. In one step: in the middle another session would take the same.
function task.find_chunk(me, text)
    critical = true
    local chunk = chunks[text]
    if chunk then
        me.chunk, me.text = chunk, text
    end
    critical = false
    return chunk
end

-- Keeps the chunk of a text, which `me` is going to run. In one step, likewise.
function task.keep_chunk(me, text, chunk)
    critical = true
    chunks[text] = chunk
    me.chunk, me.text = chunk, text
    critical = false
end

local function unshare(me)
    -- In this order: who is interrupted in the middle begins anew.
    chunks[me.text] = nil
    me.chunk = false
    if me.batch then
        task.give_back(me)          -- in requests.lua
    end
end

-- Reads a port that may switch. A port itself raises nothing, but the read does where the C stack ends, and any call may
-- where Lua's stack or the memory does: so it is read under a pcall, and `critical` is set behind that.
local function read(port, argument)
    critical = true
    return port[argument]
end

-- The memory limit -----------------------------------------------------------------------------------------------------
--
-- The limit is on all the time; Python sees to it that there is room before it puts anything in, and says so when it had
-- to lift the limit for that. User code then runs behind keep_limit(), which puts it back: what it then allocates fails.
-- Trusted code that must not fail asks for room first.

local contract = internal.contract
local TIGHT, COLLECT, CLOSELY = contract.TIGHT, contract.COLLECT, contract.CLOSELY
local ROOM = 2^18              -- what trusted code may need at once
-- The collector's steps are by the number of allocations, whatever their size, so that a few large strings fill the memory
-- before it is through: with steps of some 100 KB (0.2 ms) it is, and everything else is a little faster.
collectgarbage('setstepmul', 10000)
local NO_ROOM = contract.NO_ROOM
local OUT_OF_MEMORY = 'not enough memory'
internal.OUT_OF_MEMORY = OUT_OF_MEMORY

-- Up to here, in KB, there is room for whatever trusted code does. Python says so whenever the limit changes.
local ample = 0
function internal.take_ample()
    while true do
        ample = co_yield('')
    end
end

-- Lifts the limit, if need be, so far that trusted code can tell what went wrong: for want of memory, or otherwise.
function task.make_room(for_want_of_it)
    if for_want_of_it or collectgarbage('count') > ample then
        local _ = MAKE_ROOM[for_want_of_it and 1 or 0]
    end
end

-- The same for trusted code behind user code, which may have left no room at all, however little is in use.
function task.lift_limit()
    local _ = MAKE_ROOM[0]
end

local function keep_limit()
    local _ = KEEP_LIMIT[0]
end
task.keep_limit = keep_limit

-- Calls func(...), a function of C or as short, with all the room that there is. Like pcall. Nobody looks at the clock
-- meanwhile, which would take the room back, and the collector does not wait until there is half as much again.
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

-- What it means that a port could not be read: the last instruction in front of it may have been the one to end the task.
local function unread(problem)
    return (problem == OUT_OF_MEMORY or problem == KILL) and problem or 'stack overflow'
end

-- Calls a port that may switch. Returns the port's result; raises KILL when the task was cancelled meanwhile.
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

-- Completes the record of a new task: its id (Tarantool's first hundred are its system fibers'), and what this file keeps in
-- it, from the start, so that setting it later takes no memory.
local last_fid = 100
function task.new_record(record)
    -- Between the two lines another task could be let in, and take the same number.
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

-- Makes the running coroutine's stacks grow now, not when there is no memory left for it.
local function grow_stack(depth)
    if depth > 0 then
        return (grow_stack(depth - 1))
    end
end
task.grow_stack = grow_stack

-- Whether the limit was lifted for what is done under the lock.
local lifted = false
local LOCK_DEPTH = 10

-- Between lock() and unlock() no other task runs, and this one is not cancelled: for what must be looked at and changed,
-- or waited for, in one step. Nothing in between may raise: a stack or a memory that is nearly full is told here, before.
function task.lock()
    -- From here on: who had a turn in the middle would have its own room taken away behind it, and so this one's.
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

-- What `list` has under a key: `value`, unless there was something already. For what two tasks may make at once.
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

-- Waits under the lock, which is open meanwhile and closed again afterwards; false when the task was cancelled.
function task.park_locked(seconds)
    local me = current
    if me.chunk then
        unshare(me)
    end
    -- Others have opened the lock. Before it is closed again the hook may end this task, once: that is caught here.
    local ok, alive = raw_pcall(park, me, seconds)
    current, critical = me, true
    lifted = false
    if collectgarbage('count') > ample then
        lifted = me.user_code
        task.make_room()
    end
    return ok and alive
end

-- Waits `seconds`, or until woken; with 0, until its next turn.
function task.park(seconds)
    return block(PARK, seconds)
end

-- Calls a port whose answer is a string, which takes memory.
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

-- Calls an exposed Python function: `request` is a packed string, and so is what comes back.
function task.call_python(request)
    return text(CALL, request)
end

-- Tasks by id, for as long as they live.
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

-- Collects all garbage, by steps: it can take a second where memory is full of small objects, so others get their turns in
-- between. (Marking one large table is a single step.) Ends early when the task is cancelled, or when another task has
-- finished collecting. A cycle that was under way may have passed objects that are garbage by now: if it leaves `enough` KB or
-- more, a second one follows. The memory limit is lifted meanwhile; COLLECTED puts it back.
local CYCLES = 2
-- Steps made, and collections finished, by all tasks.
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

-- Collects because memory is full, behind the turns of others. If another task collects (there were steps meanwhile), waits
-- for the end of that instead.
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

-- Collects because the user asks for it.
function task.collect_now()
    task.lift_limit()
    collect_by_steps(current, 0)
    collected(current)
end

-- TICK answers for the greenlet that really runs: contract.py says what its argument and its answer mean. (TURN lets the
-- others in, and answers again.) `current` is not believed: for the instructions between a port's return and the line that
-- restores it, it is another task's.
local OWN_LOOK, FIRST_LOOK = contract.OWN_LOOK, contract.FIRST_LOOK
local LATE, OVER, ASKED, MANY = contract.LATE, contract.OVER, contract.ASKED, contract.MANY
-- How many looks later KILL is raised again, where something has swallowed it. Not sooner: behind the outer pcall of task.run()
-- a few instructions pass until `user_code` is cleared, and a hook may look at each of them.
local THROWN_AGAIN = 20
local function coroutine_count()
    local count = COROUTINE_KB / collectgarbage('count')
    count = count - count % 1
    return count > COROUTINE_COUNT and COROUTINE_COUNT or count < LEAST_COUNT and LEAST_COUNT or count
end

local function hook()
    -- Trusted code outside a run is short, and has its room, which letting others in would take away. It runs in a task's own
    -- coroutine, which tells whose it is; `current` may still be another task's.
    local me = owned[co_running()]
    if critical then
        -- A loop of as many instructions as lie between two looks would always be found here.
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
        where, me.is_fresh = me.is_fresh and FIRST_LOOK or OWN_LOOK, false
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
        -- This look may have been asked for. With one behind each instruction KILL would be raised again, on its way out.
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
                -- A fiber that was cancelled has run for a whole slice and did not notice.
                fid = -fid
            end
        end
    end
    if not ok then
        current, critical = me, false
        if not me.user_code then
            return
        end
        -- No room to look at the clock: this depth must be left, or it could never be interrupted.
        return error(unread(fid), 0)
    end
    me = fid and records[fid < 0 and -fid or fid] or me
    current, critical = me, false
    if me.batch then
        me.batch.looks = me.batch.looks + 1
    end
    if fid and fid < 0 and me.user_code then
        -- Once, since it is on its way from then on; again where something has swallowed it.
        me.killed, me.thrown = true, (me.thrown or 0) + 1
        if me.thrown == 1 or me.thrown > THROWN_AGAIN then
            me.thrown = 1
            return error(KILL, 0)
        end
    end
end

-- There is much in memory: from now on the collector does not wait until twice as much is there.
function task.collect_sooner()
    collectgarbage('setpause', PAUSE)
end

-- Does what Python asks for with an operation, by the flags added to it, and gives the operation. Where memory is short the
-- limit has been lifted: user code is to find it in its place.
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

-- A look at the clock out of turn: after a function of C that takes long for itself.
function internal.look()
    return hook()
end

-- Makes the running coroutine a task's own. Called once, at its start.
function task.adopt(record)
    owned[co_running()] = record
    records[record.fid] = record
    sethook(hook, '', HOOK_COUNT)
    current = record
end

-- The hook may raise KILL between any two instructions for as long as `user_code` is set, so also just before and after
-- the inner pcall: the outer one is for that.

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

-- Runs func(...) as user code of `me`. Like pcall; a cancelled run ends with KILL as its error.
function task.run(me, func, ...)
    if me.keeps_limit then
        me.keeps_limit = false
        keep_limit()
    end
    current, critical = me, false
    me.killed, me.thrown = false, false
    return result(me, raw_pcall(enter, me, func, ...))
end

-- Calls func(...), which is short and needs little memory, and is not to be ended in the middle. What ends the task meanwhile
-- does so behind it.
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

-- What an error says, as text: an error object's own __tostring is user code.
function task.text_of(me, value)
    if type(value) == 'string' then
        return value
    end
    local ok, text = task.run(me, tostring, value)
    return ok and type(text) == 'string' and text or 'an error that cannot be shown'
end

-- pcall, xpcall and coroutines as users get them: they hand KILL on, whatever it passed through.

local strip_position = internal.strip_position
local function protected(ok, ...)
    if current.killed then
        check()
    end
    if not ok then
        -- Whatever failed under the lock, user code is not under it.
        critical = false
        local message = ...
        if type(message) == 'string' then
            return ok, strip_position(message)
        end
    end
    return ok, ...
end

-- pcall for trusted code that calls a user's function in the middle of a statement.
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
    -- 5.1's xpcall takes no arguments for the function; LuaJIT's does.
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

-- The library keeps a coroutine's hook by its address, and never forgets one: now and then the table is emptied, and the
-- hooks of those that live are set anew.
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
    -- 5.1 makes coroutines of Lua functions only.
    local ok, co = raw_pcall(co_create, func)
    if not ok then
        co = co_create(function(...) return func(...) end)
    end
    sethook(co, hook, '', COROUTINE_COUNT)
    made[co] = true
    -- What a restricted session makes stays its maker's, whoever resumes it.
    credentials[co] = credentials[co_running()] or current.session.maker
    made_count = made_count + 1
    if made_count >= REBUILD_COUNT then
        -- Without memory some would be left without a hook.
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

-- A coroutine for trusted code that runs a function of a user's in it.
function task.new_coroutine(func)
    return (create('create', func))
end

-- Whatever failed under the lock, what goes on is not under it.
function task.uncritical()
    critical = false
end

-- Like coroutine.resume, for what create() made.
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

-- A thread argument would let a user walk the stack of another session's coroutine; a level far below 0 walks for ever.
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
