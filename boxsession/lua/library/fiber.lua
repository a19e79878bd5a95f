-- The fiber module: user code that runs beside its creator, on tasks of its own (task.lua). Behaviour and messages:
-- Tarantool 2.6, but that a fiber keeps its creator's session.
--
-- What is looked at and then waited for is done under task.lock(): no other task can change it in between.
-- Needs: kernel/objects, kernel/task, library/modules
local internal, SPAWN, START, WAKE, CLOCK, LOG = ...
local MONOTONIC, REALTIME = internal.contract.MONOTONIC, internal.contract.REALTIME
local raw, task = internal.raw, internal.task
local error, floor, newproxy, next, remove, select, setmetatable, sub, tostring, type, unpack = raw.error, raw.floor,
    raw.newproxy, raw.next, raw.remove, raw.select, raw.setmetatable, raw.sub, raw.tostring, raw.type, raw.unpack
local KILL = internal.KILL

local credentials = task.credentials
local fiber = {}
internal.modules.fiber = fiber

-- Records by fiber id: {fid, session, name, joinable, cancelled, finished, storage, ...}. A joinable one stays until joined.
local fibers = {}

local LONGEST = 1e9     -- seconds; a timer takes no infinity
local FOREVER = LONGEST

local DEAD, CANCELLED, NOT_JOINABLE = 'the fiber is dead', 'fiber is cancelled', 'the fiber is not joinable'

-- Waiting -------------------------------------------------------------------------------------------------------------

local function test_cancel()
    local me = task.current()
    if me.cancelled then
        return error(CANCELLED, 0)
    end
end

-- Waits in `queue` until waiter.done, for `seconds` at most, and says whether it is; raises when this fiber is cancelled.
-- Called under the lock, and leaves it.
local withdraw
local function wait(queue, waiter, seconds)
    local me = task.current()
    waiter.record = me
    queue[#queue + 1] = waiter
    local deadline = CLOCK[MONOTONIC] + seconds
    local alive = true
    while alive and not waiter.done and not me.cancelled do
        local left = deadline - CLOCK[MONOTONIC]
        if left <= 0 then
            break
        end
        alive = task.park_locked(left)
    end
    if not waiter.done then
        withdraw(queue, waiter)
    end
    task.unlock()
    task.check()
    return waiter.done == true
end

local function wake(record)
    local _ = WAKE[record.fid]
end

local function timeout_of(value, usage)
    if value == nil then
        return FOREVER
    end
    if type(value) ~= 'number' or value < 0 or value ~= value then
        return error(usage, 0)
    end
    return value > LONGEST and LONGEST or value
end

-- Queues of waiters: first come, first served.
function withdraw(queue, waiter)
    for index = 1, #queue do
        if queue[index] == waiter then
            remove(queue, index)
            return
        end
    end
end

local function serve_first(queue)
    local waiter = remove(queue, 1)
    if waiter then
        waiter.done = true
        wake(waiter.record)
    end
    return waiter
end

-- Handles -------------------------------------------------------------------------------------------------------------

-- Opaque userdata: what is behind it cannot be reached, nor its metatable.
local template = newproxy(true)
local handle_meta = raw.debug_getmetatable(template)
-- Neither keeps the other alive: a record does not know its handle.
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

-- The record that an argument means: a handle, or where `by_id` a number.
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
    return record.finished and 'dead' or 'suspended'
end

-- Life ----------------------------------------------------------------------------------------------------------------

-- Who a fiber runs as: as its creator, but with a last error of its own.
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

local function finish(record, ok, ...)
    local results, result_count = {...}, select('#', ...)
    if not ok and not record.told and not record.joinable and not record.cancelled and not record.killed then
        local _ = LOG['report:fiber ' .. record.fid .. ' (' .. record.name .. ') of session ' .. record.session.id
                      .. ' raised: ' .. task.text_of(record, (...))]
        record.told = true
        -- The turn of others may have come, which took the room away.
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

-- The body of a fiber's coroutine. Python starts it with the fiber's id and takes '' when it is over.
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
    -- Whoever is ended meanwhile may have started it; nobody else has.
    if ok or started ~= KILL then
        fibers[record.fid] = nil
    end
    return error(ok and usage .. ': too many fibers (limits.fibers)' or started, 0)
end

-- Runs a function in a fiber of its own, to its first wait, and then goes on.
function fiber.create(...)
    return launch(START, 'fiber.create(function, ...)', ...)
end

-- The same, but the new fiber waits until its creator does.
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
    return live_record(false, ...).fid
end

function fiber.status(...)
    if select('#', ...) == 0 then
        return 'running'
    end
    return status_of(record_of(false, ...))
end

-- name() and name(fiber) tell, name(text) and name(fiber, text) set.
function fiber.name(...)
    local first, second = ...
    local record, text
    if select('#', ...) == 0 or type(first) == 'string' then
        record, text = task.current(), first
    else
        record, text = live_record(false, ...), second
    end
    if text == nil then
        return record.name
    end
    record.name = sub(tostring(text), 1, 255)
end

function fiber.sleep(delay)
    if type(delay) ~= 'number' or delay ~= delay then
        return error('fiber.sleep(delay): bad arguments', 0)
    end
    test_cancel()
    task.park(delay > LONGEST and LONGEST or delay > 0 and delay or 0)
    test_cancel()
end

fiber['yield'] = function()
    test_cancel()
    task.park(0)
    test_cancel()
end

function fiber.testcancel()
    test_cancel()
end

function fiber.wakeup(...)
    wake(live_record(true, ...))
end

-- Soft: it is told at its next wait, and may go on nevertheless.
function fiber.cancel(...)
    local record = live_record(true, ...)
    record.cancelled = true
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
    else
        record = live_record(false, ...)
    end
    record.joinable = joinable and true or false
    if not record.joinable and record.finished then
        fibers[record.fid] = nil
    end
end

function fiber.join(...)
    local record = live_record(false, ...)
    if not record.joinable then
        return error(NOT_JOINABLE, 0)
    end
    task.lock()
    if not record.finished then
        record.joiners = record.joiners or {}
        wait(record.joiners, {}, FOREVER)
        test_cancel()
    else
        task.unlock()
    end
    record.joined = true
    fibers[record.fid] = nil
    if record.ok then
        return true, unpack(record.results, 1, record.result_count)
    end
    local problem = record.results[1]
    return false, problem == KILL and 'fiber is killed' or problem
end

local function gather()
    local shown = {}
    for fid, record in next, fibers do
        if not record.finished then
            shown[fid] = {fid = fid, name = record.name, csw = 0}
        end
    end
    return shown
end

-- Where others have a turn in the middle, and make or end fibers, it is begun again.
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

handle_meta.__metatable = false
handle_meta.__index = function(handle, key)
    if key == 'storage' then
        local record = live_record(false, handle)
        return record.storage or task.first(record, 'storage', {})
    end
    return methods[key]
end
handle_meta.__tostring = function(handle)
    local record = records[handle]
    return record and 'fiber: ' .. record.fid or 'fiber'
end
handle_meta.__serialize = function(handle)
    local record = live_record(false, handle)
    return {id = record.fid, name = record.name, status = status_of(record)}
end

-- A session's own task is a fiber, too: it can be found, named and woken while the session lives.
function internal.fiber_of_session(record)
    record.name = sub('console/' .. record.session.peer, 1, 255)
    fibers[record.fid] = record
end

function internal.fiber_forget(record)
    record.finished = true
    fibers[record.fid] = nil
end

-- Channels ------------------------------------------------------------------------------------------------------------

local PUT_USAGE, GET_USAGE = 'usage: channel:put(var [, timeout])', 'usage: channel:get([timeout])'

local channel, channel_meta, make_channel, channel_of = internal.class('fiber.channel')

function channel_meta.__tostring(object)
    return 'channel: ' .. #channel_of(object).items
end

-- A channel that holds up to `size` messages; with none, each put waits for its get.
function fiber.channel(size)
    if size ~= nil and type(size) ~= 'number' then
        return error('fiber.channel(size): bad arguments', 0)
    end
    size = floor(size or 0)
    if size < 0 then
        return error('fiber.channel(size): negative size', 0)
    end
    return make_channel({size = size, items = {}, readers = {}, writers = {}, closed = false})
end

function channel.put(...)
    local count = select('#', ...)
    if count < 2 and records[(...)] == nil and type((...)) ~= 'userdata' then
        channel_of(...)
    end
    if count < 2 then
        return error(PUT_USAGE, 0)
    end
    local state = channel_of(...)
    local _, value, timeout = ...
    local seconds = timeout_of(timeout, PUT_USAGE)
    test_cancel()
    task.lock()
    if state.closed then
        task.unlock()
        return false
    end
    local item = {value = value}
    local reader = serve_first(state.readers)
    if reader then
        reader.item = item
        task.unlock()
        return true
    end
    if #state.items < state.size then
        state.items[#state.items + 1] = item
        task.unlock()
        return true
    end
    local waiter = {item = item}
    wait(state.writers, waiter, seconds)
    test_cancel()
    return waiter.taken == true
end

function channel.get(...)
    local _, timeout = ...
    if select('#', ...) == 0 then
        return error(GET_USAGE, 0)
    end
    local state = channel_of(...)
    local seconds = timeout_of(timeout, GET_USAGE)
    test_cancel()
    task.lock()
    local item = remove(state.items, 1)
    local writer
    if item or #state.writers > 0 then
        writer = serve_first(state.writers)
    end
    if writer then
        writer.taken = true
        if item then
            state.items[#state.items + 1] = writer.item
        else
            item = writer.item
        end
    end
    if item or state.closed then
        task.unlock()
        return item and item.value
    end
    local waiter = {}
    wait(state.readers, waiter, seconds)
    if not waiter.item then
        test_cancel()
        return nil
    end
    return waiter.item.value
end

function channel.close(...)
    local state = channel_of(...)
    task.lock()
    state.closed = true
    state.items = {}
    while serve_first(state.readers) do
    end
    while serve_first(state.writers) do
    end
    task.unlock()
end

function channel.is_closed(...)
    return channel_of(...).closed
end

function channel.is_full(...)
    local state = channel_of(...)
    return #state.items >= state.size
end

function channel.is_empty(...)
    return #channel_of(...).items == 0
end

function channel.count(...)
    return #channel_of(...).items
end

function channel.size(...)
    return channel_of(...).size
end

function channel.has_readers(...)
    return #channel_of(...).readers > 0
end

function channel.has_writers(...)
    return #channel_of(...).writers > 0
end

-- Conditions ----------------------------------------------------------------------------------------------------------

local WAIT_USAGE = 'usage: cond:wait([timeout])'

local cond, cond_meta, make_cond, cond_of = internal.class('fiber.cond')

function cond_meta.__tostring()
    return 'cond'
end

function fiber.cond()
    return make_cond({waiters = {}})
end

-- Waits for a signal; says whether one came in time.
function cond.wait(...)
    if select('#', ...) == 0 then
        return error(WAIT_USAGE, 0)
    end
    local state = cond_of(...)
    local seconds = timeout_of((select(2, ...)), WAIT_USAGE)
    test_cancel()
    task.lock()
    local signalled = wait(state.waiters, {}, seconds)
    test_cancel()
    return signalled
end

function cond.signal(...)
    local state = cond_of(...)
    task.lock()
    serve_first(state.waiters)
    task.unlock()
end

function cond.broadcast(...)
    local state = cond_of(...)
    task.lock()
    while serve_first(state.waiters) do
    end
    task.unlock()
end
