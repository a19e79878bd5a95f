-- The module fiber: user code in a separate task (task.lua), concurrent with its creator. Behaviour and messages: Tarantool
-- 2.6, except that a fiber keeps its creator's session.
--
-- Invariant: a check and the wait that follows it are under one task.lock(), so no wake-up is lost.
-- Needs: kernel/task, library/modules, library/waiting
local internal, SPAWN, START, CLOCK, LOG = ...
local MONOTONIC, REALTIME = internal.contract.MONOTONIC, internal.contract.REALTIME
local raw, task = internal.raw, internal.task
local error, floor, match, newproxy, next, select, setmetatable, sub, type, unpack = raw.error, raw.floor, raw.match,
    raw.newproxy, raw.next, raw.select, raw.setmetatable, raw.sub, raw.type, raw.unpack
local KILL, waiting = internal.KILL, internal.waiting
local wait, wake, test_cancel, test_new_cancel, LONGEST = waiting.wait, waiting.wake, waiting.test_cancel,
    waiting.test_new_cancel, waiting.LONGEST

local credentials = task.credentials
local fiber = {}
internal.modules.fiber = fiber

-- Records by fiber id: {fid, session, name, joinable, cancelled, finished, storage, ...}. A joinable fiber's record stays
-- until it is joined.
local fibers = {}

local DEAD, NOT_JOINABLE = 'the fiber is dead', 'the fiber is not joinable'

-- Handles -------------------------------------------------------------------------------------------------------------

-- A handle is an opaque userdata: users reach neither its record nor its metatable.
local template = newproxy(true)
local handle_meta = raw.debug_getmetatable(template)
-- Weak tables, so neither a handle nor a record keeps the other alive.
local records = setmetatable({}, {__mode = 'k'})
local handles = setmetatable({}, {__mode = 'kv'})

local function handle_of(record)
    local handle = handles[record]
    if not handle then
        handle = newproxy(template)
        records[handle] = record
        handle = task.first(handles, record, handle)
    end
    return handle
end

local function is_dead(record)
    return record.finished and not record.joinable or record.joined
end

local function type_name(count, value)
    return count == 0 and 'no value' or type(value)
end

-- The record of an argument: a handle or, with `by_id`, a fiber id.
local function record_of(by_id, ...)
    local value = ...
    local record = records[value]
    if record == nil and by_id and type(value) == 'number' then
        record = fibers[value]
        if not record then
            return error(DEAD, 0)
        end
    end
    if record == nil then
        return error("bad argument #1 to '?' (fiber expected, got " .. type_name(select('#', ...), value) .. ')', 0)
    end
    return record
end

local function live_record(by_id, ...)
    local record = record_of(by_id, ...)
    if is_dead(record) then
        return error(DEAD, 0)
    end
    return record
end

local function status_of(record)
    if record == task.current() then
        return 'running'
    end
    -- A fiber that has ended and waits for its join() is not dead yet.
    return record.finished and fibers[record.fid] ~= record and 'dead' or 'suspended'
end

-- Life ----------------------------------------------------------------------------------------------------------------

-- A fiber's identity: its creator's, without `diag`, so that its last error is separate.
local function inherited(who)
    return who and {uid = who.uid, user = who.user, trusted = who.trusted, may_su = who.may_su, home = who.home}
end

local function new_record(...)
    local func = ...
    local me = task.current()
    return task.new_record({func = func, count = select('#', ...) - 1, arguments = {select(2, ...)}, session = me.session,
                            credentials = inherited(credentials[raw.co_running()]),
                            name = 'lua', storage = {}})
end

-- The error of a fiber for join(): an error object of its own type, which is passed on, or a new one.
local KILLED, CANCELLED = 'fiber is killed', 'fiber is cancelled'
local function joined_error(record, problem)
    if internal.error_fields(problem) then
        return problem
    end
    local text = problem == KILL and KILLED or task.text_of(record, problem)
    return internal.lua_error(text, text == CANCELLED and 'FiberIsCancelled' or 'LuajitError')
end

local function finish(record, ok, ...)
    local results, result_count = {...}, select('#', ...)
    if not ok and record.joinable then
        results = {joined_error(record, (...))}
    end
    if not ok and not record.told and not record.joinable and not record.cancelled and not record.killed then
        local _ = LOG['report:fiber ' .. record.fid .. ' (' .. record.name .. ') of session ' .. record.session.id
                      .. ' raised: ' .. task.text_of(record, (...))]
        record.told = true
        -- Other tasks may have run, which puts the memory limit back.
        task.make_room()
    end
    task.lock()
    record.finished, record.ok, record.results, record.result_count = true, ok, results, result_count
    record.func, record.arguments = nil, nil
    if not record.joinable then
        fibers[record.fid] = nil
    end
    for _, waiter in next, record.joiners or {} do
        waiter.done = true
        wake(waiter.record)
    end
    task.unlock()
end

local function call(record)
    credentials[raw.co_running()] = record.credentials
    return record.func(unpack(record.arguments, 1, record.count))
end

local function run_and_finish(record)
    return finish(record, task.run(record, call, record))
end

-- The body of a fiber's coroutine. Python starts it with the fiber's id; it returns '' at its end.
function internal.fiber_main(fid)
    local record = fibers[fid]
    task.adopt(record)
    record.keeps_limit = true
    if not raw.pcall(run_and_finish, record) then
        task.make_room(true)
        finish(record, false, internal.OUT_OF_MEMORY)
        task.keep_limit()
    end
    return ''
end

local function spawn(port, fid)
    return port[fid]
end

local function launch(port, usage, ...)
    if type((...)) ~= 'function' then
        return error(usage .. ': bad arguments', 0)
    end
    local record = new_record(...)
    fibers[record.fid] = record
    local ok, started = raw.pcall(port == START and task.block or spawn, port, record.fid)
    if ok and started ~= nil then
        return handle_of(record)
    end
    -- With KILL the fiber may have started, so its record stays. In the other cases it has not.
    if ok or started ~= KILL then
        fibers[record.fid] = nil
    end
    return error(ok and usage .. ': too many fibers (limits.fibers)' or started, 0)
end

-- Runs a function in a new fiber up to its first wait, then continues.
function fiber.create(...)
    return launch(START, 'fiber.create(function, ...)', ...)
end

-- The same, but the new fiber starts only when its creator waits.
function fiber.new(...)
    return launch(SPAWN, 'fiber.new(function, ...)', ...)
end

function fiber.self()
    local me = task.current()
    fibers[me.fid] = me
    return handle_of(me)
end

function fiber.find(id)
    if type(id) ~= 'number' and type(id) ~= 'string' then
        return error('fiber.find(id): bad arguments', 0)
    end
    local record = fibers[raw.tonumber(id) or 0]
    return record and handle_of(record) or nil
end

function fiber.id(...)
    if select('#', ...) == 0 then
        return task.current().fid
    end
    return record_of(false, ...).fid
end

function fiber.status(...)
    if select('#', ...) == 0 then
        return 'running'
    end
    return status_of(record_of(false, ...))
end

-- name() and name(fiber) return the name; name(text, options) and name(fiber, text, options) set it.
local NAME_MAX = 255
function fiber.name(...)
    local at, record = 1, task.current()
    if records[(...)] then
        at, record = 2, live_record(false, ...)
    end
    if select('#', ...) < at then
        return record.name
    end
    local text, options = select(at, ...)
    if type(text) ~= 'string' and type(text) ~= 'number' then
        return error('bad argument #' .. at .. " to '?' (string expected, got " .. type(text) .. ')', 0)
    end
    text = match(text, '^%Z*')
    if #text > NAME_MAX and not (type(options) == 'table' and options.truncate) then
        return error('Fiber name is too long', 0)
    end
    record.name = sub(text, 1, NAME_MAX)
end

function fiber.sleep(delay)
    delay = type(delay) == 'string' and raw.tonumber(delay) or delay
    if type(delay) ~= 'number' or delay ~= delay then
        return error('fiber.sleep(delay): bad arguments', 0)
    end
    test_new_cancel()
    task.park(delay > LONGEST and LONGEST or delay > 0 and delay or 0)
    test_cancel()
end

fiber['yield'] = function()
    test_new_cancel()
    task.park(0)
    test_cancel()
end

function fiber.testcancel(...)
    if select('#', ...) > 0 then
        return error('fiber.testcancel(): bad arguments', 0)
    end
    test_cancel()
end

function fiber.wakeup(...)
    wake(live_record(true, ...))
end

-- Soft cancel: the fiber's next wait raises. The fiber can catch that and continue: each further wait raises at its end,
-- and a wait for a channel at once.
function fiber.cancel(...)
    local record = live_record(true, ...)
    waiting.cancel(record)
    if record == task.current() then
        return test_cancel()
    end
    wake(record)
end
fiber.kill = fiber.cancel

function fiber.set_joinable(...)
    local count = select('#', ...)
    local handle, joinable = ...
    local record
    if count == 1 and type(handle) == 'boolean' then
        record, joinable = task.current(), handle
    elseif count < 2 then
        return error('fiber.set_joinable(id, yesno): bad arguments', 0)
    else
        record = live_record(false, ...)
    end
    record.joinable = joinable and true or false
    if not record.joinable and record.finished then
        fibers[record.fid] = nil
    end
end

function fiber.join(...)
    local record = live_record(true, ...)
    if not record.joinable then
        return error(NOT_JOINABLE, 0)
    end
    task.lock()
    if not record.finished then
        record.joiners = record.joiners or {}
        if not wait(record.joiners, {}, LONGEST) then
            test_cancel()
        end
    else
        task.unlock()
    end
    record.joined = true
    fibers[record.fid] = nil
    if record.ok then
        return true, unpack(record.results, 1, record.result_count)
    end
    return false, record.results[1]
end

local function gather()
    local shown = raw.setmetatable({}, {__serialize = 'mapping'})
    for fid, record in next, fibers do
        shown[fid] = {fid = fid, name = record.name, csw = 0}
    end
    return shown
end

-- gather() fails if it is preempted and other tasks make or end fibers meanwhile; it is then tried again.
local MADE_MEANWHILE, TRIES = "invalid key to 'next'", 10
function fiber.info()
    for _ = 1, TRIES do
        local ok, shown = task.protected(gather)
        if ok then
            return shown
        elseif shown ~= MADE_MEANWHILE then
            return error(shown, 0)
        end
    end
    return {}
end

function fiber.time()
    return CLOCK[REALTIME]
end

function fiber.time64()
    return floor(CLOCK[REALTIME] * 1e6)
end

function fiber.clock()
    return CLOCK[MONOTONIC]
end

function fiber.clock64()
    return floor(CLOCK[MONOTONIC] * 1e6)
end

local methods = {}
for _, name in raw.ipairs({'id', 'name', 'status', 'cancel', 'kill', 'wakeup', 'join', 'set_joinable', 'testcancel'}) do
    methods[name] = fiber[name]
end

local function storage_of(record)
    if not record.storage then
        local made = {}
        task.lock()         -- another task may make it meanwhile
        record.storage = record.storage or made
        task.unlock()
    end
    return record.storage
end

handle_meta.__metatable = false
handle_meta.__index = function(handle, key)
    if key == 'storage' then
        return storage_of(live_record(false, handle))
    end
    return methods[key]
end
handle_meta.__tostring = function(handle)
    local record = records[handle]
    if record and is_dead(record) then
        return error(DEAD, 0)
    end
    return record and 'fiber: ' .. record.fid or 'fiber'
end
handle_meta.__serialize = function(handle)
    local record = live_record(false, handle)
    return {id = record.fid, name = record.name, status = status_of(record)}
end

-- The task of a session or worker is a fiber as well: it can be found, named and woken while it lives.
function internal.fiber_of_session(record)
    local session = record.session
    record.name = session.type == 'binary' and 'main' or sub('console/' .. session.peer, 1, 255)
    fibers[record.fid] = record
end

function internal.fiber_forget(record)
    record.finished = true
    fibers[record.fid] = nil
end
