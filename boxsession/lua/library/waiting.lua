-- Waits of fibers in first-in, first-out queues. A queue is changed only under task.lock().
-- Needs: kernel/task
local internal, WAKE, CLOCK = ...
local raw, task = internal.raw, internal.task
local error, remove, type = raw.error, raw.remove, raw.type
local MONOTONIC = internal.contract.MONOTONIC

local LONGEST = 1e9     -- seconds; a timer takes no infinity

-- The field `cancelled` of a record: NEW until the fiber has got the error. It may catch that, and wait again.
local NEW, TOLD = 'new', 'told'

local function test_cancel()
    local me = task.current()
    if me.cancelled then
        me.cancelled = TOLD
        return error('fiber is cancelled', 0)
    end
end

-- The same in front of a wait, for which only a new cancel counts.
local function test_new_cancel()
    if task.current().cancelled == NEW then
        return test_cancel()
    end
end

local function cancel(record)
    record.cancelled = NEW
end

local function withdraw(queue, waiter)
    for index = 1, #queue do
        if queue[index] == waiter then
            remove(queue, index)
            return
        end
    end
end

-- Waits in `queue` until waiter.done, for at most `seconds`, or until a new cancel. Returns whether it is done; raises KILL
-- if the task is cancelled. Called under the lock, and releases it.
local function wait(queue, waiter, seconds)
    local me = task.current()
    waiter.record = me
    queue[#queue + 1] = waiter
    local deadline = CLOCK[MONOTONIC] + seconds
    local alive = true
    while alive and not waiter.done and me.cancelled ~= NEW do
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
        return LONGEST
    end
    value = type(value) == 'string' and raw.tonumber(value) or value
    if type(value) ~= 'number' or value < 0 or value ~= value then
        return error(usage, 0)
    end
    return value > LONGEST and LONGEST or value
end

local function serve_first(queue)
    local waiter = remove(queue, 1)
    if waiter then
        waiter.done = true
        wake(waiter.record)
    end
    return waiter
end

internal.waiting = {wait = wait, wake = wake, serve_first = serve_first, timeout_of = timeout_of, test_cancel = test_cancel,
                    test_new_cancel = test_new_cancel, cancel = cancel, LONGEST = LONGEST}
