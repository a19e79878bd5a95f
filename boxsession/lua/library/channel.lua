-- fiber.channel and fiber.cond.
--
-- Invariant: a check and the wait that follows it are under one task.lock(), so no wake-up is lost.
-- Needs: kernel/objects, library/fiber
local internal = ...
local raw, task, waiting = internal.raw, internal.task, internal.waiting
local error, floor, remove, select, type = raw.error, raw.floor, raw.remove, raw.select, raw.type
local wait, serve_first, timeout_of, test_cancel = waiting.wait, waiting.serve_first, waiting.timeout_of, waiting.test_cancel
local fiber = internal.modules.fiber

local PUT_USAGE, GET_USAGE = 'usage: channel:put(var [, timeout])', 'usage: channel:get([timeout])'

local channel, channel_meta, make_channel, channel_of = internal.class('fiber.channel')

function channel_meta.__tostring(object)
    local state = channel_of(object)
    return 'channel: ' .. (state.closed and 'closed' or #state.items)
end

-- A channel that holds up to `size` messages. With size 0, each put waits for a get.
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
    if count == 1 and type((...)) ~= 'userdata' then
        channel_of(...)
    end
    if count < 2 then
        return error(PUT_USAGE, 0)
    end
    local state = channel_of(...)
    local _, value, timeout = ...
    local seconds = timeout_of(timeout, PUT_USAGE)
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
    if task.current().cancelled then
        task.unlock()
        return test_cancel()
    end
    local waiter = {item = item}
    wait(state.writers, waiter, seconds)
    if not waiter.taken then
        test_cancel()
    end
    return waiter.taken == true
end

function channel.get(...)
    local _, timeout = ...
    if select('#', ...) == 0 then
        return error(GET_USAGE, 0)
    end
    local state = channel_of(...)
    local seconds = timeout_of(timeout, GET_USAGE)
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
    if task.current().cancelled then
        task.unlock()
        return test_cancel()
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

-- Waits for a signal. Returns whether one came before the timeout (seconds).
function cond.wait(...)
    if select('#', ...) == 0 then
        return error(WAIT_USAGE, 0)
    end
    local state = cond_of(...)
    local seconds = timeout_of((select(2, ...)), WAIT_USAGE)
    task.lock()
    local signalled = wait(state.waiters, {}, seconds)
    if not signalled then
        test_cancel()
    end
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

-- A method that is called without an object (`c.signal()`) names the right way, as in Tarantool. put(), get() and wait() do so
-- themselves.
local function tell_usage(methods, class, names)
    for index = 1, #names do
        local name, func = names[index], methods[names[index]]
        methods[name] = function(...)
            if select('#', ...) == 0 then
                return error('usage: ' .. class .. ':' .. name .. '()', 0)
            end
            return func(...)
        end
    end
end
tell_usage(channel, 'channel', {'close', 'is_closed', 'is_full', 'is_empty', 'count', 'size', 'has_readers', 'has_writers'})
tell_usage(cond, 'cond', {'signal', 'broadcast'})
