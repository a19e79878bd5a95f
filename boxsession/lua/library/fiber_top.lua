-- fiber.top(): which fibers use the time of the event loop. The times are taken in Python (lua/top_ports.py, scheduler/top.py).
-- Needs: library/fiber, wire/packed
local internal, TOP_ENABLE, TOP_DISABLE, TOP = ...
local raw, task = internal.raw, internal.task
local error, next = raw.error, raw.next
local fiber = internal.modules.fiber
local info = fiber.info

function fiber.top_enable()
    local _ = TOP_ENABLE[task.current().fid]
end

function fiber.top_disable()
    local _ = TOP_DISABLE[0]
end

-- Each row is asked for by itself, so that a long list is preempted in between.
local function look(fid)
    local row = task.text(TOP, fid)
    if row == '' then
        return error('fiber.top() is disabled. Enable it with fiber.top_enable() first', 0)
    end
    return internal.packed.value(row)
end

local function rest(whole, part)
    return part < whole and whole - part or 0
end

-- The row '1/sched' is what no listed fiber used: the program, the input and output of sessions, fibers that have ended.
function fiber.top()
    local cpu, instant, time, average = {}, 0, 0, 0
    for fid, shown in next, info() do
        local row = look(fid)
        cpu[fid .. '/' .. shown.name] = {instant = row[1], time = row[2], average = row[3]}
        instant, time, average = instant + row[1], time + row[2], average + row[3]
    end
    cpu['1/sched'] = {instant = rest(100, instant), time = rest(look(0), time), average = rest(100, average)}
    return {cpu = cpu, cpu_misses = 0}
end
